"""Replaces a Gather from a trained table by nodes that compute rows of a fitted table."""

import onnx_ir as ir

from edgefc.errors import UsageError
from edgefc.fitting.fitted import Fitted
from edgefc.fitting.half import HalfFit
from edgefc.fitting.tables import LowRankTableFit, QuantizedTableFit, TablePairFit
from edgefc.rewriting.finding import Place
from edgefc.rewriting.nodes import matrix
from edgefc.rewriting.packing import pack
from edgefc.rewriting.site import Site, Stores


def replace_table(place: Place, fitted: Fitted, stores: Stores) -> None:
    """Replaces one Gather. Gathers from the same table share its tensors.

    Raises:
        UsageError: no node computes this kind of fit.
    """
    site = Site(stores, place, place.node)
    rows = _rows(site, fitted)
    stores.edit.replace(
        place.node.outputs[0], rows if place.dtype == ir.DataType.FLOAT else site.cast(rows, place.dtype)
    )
    place.graph.remove(place.node, safe=True)


def _rows(site: Site, fitted: Fitted) -> ir.Value:
    """The requested rows in float32."""
    if isinstance(fitted, HalfFit):
        return site.cast(_gathered(site, site.shared(fitted, "rows", lambda: fitted.weight)), ir.DataType.FLOAT)
    if isinstance(fitted, QuantizedTableFit):
        return _quantized(site, fitted)
    if isinstance(fitted, LowRankTableFit):
        rows = _gathered(site, matrix(site, fitted, "left", fitted.left))
        return site.node("MatMul", [rows, matrix(site, fitted, "right", fitted.right)])
    if isinstance(fitted, TablePairFit):
        rows = _rows(site, fitted.left)
        return site.node("MatMul", [rows, matrix(site, fitted, "right", fitted.right.weight)])
    raise UsageError(f"an .onnx file has no form for {type(fitted).__name__}")


def _quantized(site: Site, fitted: QuantizedTableFit) -> ir.Value:
    rows, groups = fitted.scales.shape
    size = fitted.group * fitted.bits // 8
    codes = site.shared(fitted, "codes", lambda: pack(fitted.codes, fitted.bits).reshape(rows, groups, size))
    scales = site.shared(fitted, "scales", lambda: fitted.scales)
    attributes = {
        "num_embeddings": rows, "embedding_dim": fitted.features, "bits": fitted.bits, "group": fitted.group,
        "element_type": int(ir.DataType.FLOAT),
    }  # fmt: skip
    return site.call("QuantizedEmbedding", [_indices(site), codes, scales], attributes)


def _gathered(site: Site, table: ir.Value) -> ir.Value:
    return site.node("Gather", [table, _indices(site)], {"axis": 0})


def _indices(site: Site) -> ir.Value:
    value = site.place.node.inputs[1]
    assert value is not None
    return value
