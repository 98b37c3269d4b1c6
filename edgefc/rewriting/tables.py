"""Replaces a Gather from a trained table by nodes that compute rows of a fitted table."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgefc.errors import UsageError
from edgefc.fitting.fitted import Fitted
from edgefc.fitting.tables import LowRankTableFit, QuantizedTableFit
from edgefc.rewriting.editing import Editor
from edgefc.rewriting.finding import Place
from edgefc.rewriting.packing import pack

_ONNXRUNTIME = "com.microsoft"


class TableWriter:
    """Writes fitted tables in the place of Gather nodes. Gathers from the same table share its tensors."""

    def __init__(self, edit: Editor) -> None:
        self._edit = edit
        self._stored: dict[tuple[int, str], ir.Value] = {}

    def replace(self, place: Place, fitted: Fitted) -> None:
        """Replaces one Gather.

        Raises:
            UsageError: no node computes this kind of fit.
        """
        if isinstance(fitted, QuantizedTableFit):
            rows = self._quantized(place, fitted)
        elif isinstance(fitted, LowRankTableFit):
            rows = self._low_rank(place, fitted)
        else:
            raise UsageError(f"an .onnx file has no form for {type(fitted).__name__}")
        if place.dtype != ir.DataType.FLOAT:
            rows = self._node(place, "Cast", [rows], to=place.dtype)
        self._edit.replace(place.node.outputs[0], rows)
        place.graph.remove(place.node, safe=True)

    def _quantized(self, place: Place, fitted: QuantizedTableFit) -> ir.Value:
        """Codes without zero points are relative to 2**(bits - 1). The scales are cast when the file is loaded."""
        codes = self._shared(place, fitted, "codes", pack(fitted.codes, fitted.bits))
        half = self._shared(place, fitted, "scales", fitted.scales)
        scales = self._node(place, "Cast", [half], to=ir.DataType.FLOAT)
        self._edit.model.graph.opset_imports.setdefault(_ONNXRUNTIME, 1)
        rows = self._edit.node(
            place.graph, "GatherBlockQuantized", [codes, place.node.inputs[1], scales],
            {"bits": fitted.bits, "block_size": fitted.group, "gather_axis": 0, "quantize_axis": 1},
            domain=_ONNXRUNTIME, before=place.node, name=place.node.name, metadata=place.node.metadata_props,
        )  # fmt: skip
        return rows if fitted.codes.shape[1] == fitted.features else self._cut(place, rows, fitted.features)

    def _low_rank(self, place: Place, fitted: LowRankTableFit) -> ir.Value:
        left = self._shared(place, fitted, "left", fitted.left.astype(np.float32))
        right = self._shared(place, fitted, "right", fitted.right.astype(np.float32))
        rows = self._node(place, "Gather", [left, place.node.inputs[1]], axis=0)
        return self._node(place, "MatMul", [rows, right])

    def _cut(self, place: Place, rows: ir.Value, features: int) -> ir.Value:
        """The first features of each row, without the padding of the last group."""
        numbers = [("start", 0), ("end", features), ("axis", -1)]
        ends = [self._edit.initializer(place.graph, f"{place.name}.{name}", np.array([v])) for name, v in numbers]
        return self._node(place, "Slice", [rows, *ends])

    def _shared(self, place: Place, fitted: Fitted, what: str, array: NDArray[Any]) -> ir.Value:
        key = (id(fitted), what)
        if key not in self._stored:
            graph = place.roots[0].graph
            self._stored[key] = self._edit.initializer(graph, f"{place.name}.{what}", np.ascontiguousarray(array))
        return self._stored[key]

    def _node(self, place: Place, op: str, inputs: list[ir.Value | None], **attributes: object) -> ir.Value:
        return self._edit.node(
            place.graph, op, inputs, attributes,
            before=place.node, name=f"{place.name}.{op}", metadata=place.node.metadata_props,
        )  # fmt: skip
