"""The nodes that compute each kind of fitted linear layer.

They compute in float32. For a product of another type there is a Cast before and after them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgefc.errors import UsageError
from edgefc.fitting.circulant import CirculantFit
from edgefc.fitting.eugen import EUGenFit
from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.half import HalfFit
from edgefc.fitting.kronecker import KroneckerFit
from edgefc.fitting.low_rank import LowRankFit
from edgefc.fitting.monarch import MonarchFit
from edgefc.fitting.pair import LowRankPairFit
from edgefc.fitting.prp import PRPFit
from edgefc.fitting.quantized import QuantizedFit
from edgefc.fitting.rotation import block_of
from edgefc.generator import codebook
from edgefc.layers.int3 import packing as int3
from edgefc.rewriting.constants import attribute
from edgefc.rewriting.packing import pack
from edgefc.rewriting.products import Product
from edgefc.rewriting.site import Site, Stores, signed

Bias = NDArray[np.float32] | None


def replace_product(product: Product, fitted: Fitted, stores: Stores) -> None:
    """Replaces a product by a fitted layer.

    Args:
        fitted: its bias is the correction for the mean of the inputs, which is added to that of the product.

    Raises:
        UsageError: no node computes this kind of fit.
    """
    site = Site(stores, product.place, product.last)
    _writer(fitted)
    y = layer(site, _input(site), fitted, _bias(product, fitted))
    stores.edit.replace(product.result, y if _is_single(site) else site.cast(y, product.place.dtype))
    for node in dict.fromkeys((product.last, product.place.node)):
        product.place.graph.remove(node, safe=True)


def layer(site: Site, x: ir.Value, fitted: Fitted, bias: Bias) -> ir.Value:
    """The outputs (..., m) of a fitted layer for x (..., n), both in float32."""
    return _writer(fitted)(site, x, fitted, bias)


def matrix(site: Site, fitted: Fitted, what: str, values: Array | NDArray[np.float16]) -> ir.Value:
    """A matrix in float32, stored in float32 or in float16."""
    if values.dtype == np.float16:
        return site.cast(site.shared(fitted, what, lambda: values), ir.DataType.FLOAT)
    return site.shared(fitted, what, lambda: values.astype(np.float32))


def _writer(fitted: Fitted) -> Callable[[Site, ir.Value, Any, Bias], ir.Value]:
    for kind, write in _WRITE.items():
        if isinstance(fitted, kind):
            return write
    raise UsageError(f"an .onnx file has no form for {type(fitted).__name__}")


def _is_single(site: Site) -> bool:
    return site.place.dtype == ir.DataType.FLOAT


def _input(site: Site) -> ir.Value:
    """x (..., n) in float32."""
    node = site.place.node
    x = node.inputs[0]
    assert x is not None
    if node.op_type == "Gemm" and attribute(node, "transA", 0):
        x = site.node("Transpose", [x], {"perm": [1, 0]})
    return x if _is_single(site) else site.cast(x, ir.DataType.FLOAT)


def _bias(product: Product, fitted: Fitted) -> Bias:
    """The bias of the product with the correction of the fit; None for a product without both."""
    own, correction = product.bias, fitted.bias
    if own is None and (correction is None or not np.any(correction)):
        return None
    total = (0.0 if own is None else own) + (0.0 if correction is None else correction)
    return np.asarray(total, np.float32)


def _added(site: Site, y: ir.Value, bias: Bias) -> ir.Value:
    return y if bias is None else site.node("Add", [y, site.own("bias", bias)])


def _or_zeros(site: Site, bias: Bias, outputs: int) -> ir.Value:
    return site.own("bias", np.zeros(outputs, np.float32) if bias is None else bias)


def _half(site: Site, x: ir.Value, fitted: HalfFit, bias: Bias) -> ir.Value:
    return _added(site, site.node("MatMul", [x, matrix(site, fitted, "weight", fitted.weight.T)]), bias)


def _low_rank(site: Site, x: ir.Value, fitted: LowRankFit, bias: Bias) -> ir.Value:
    return _added(site, _two_products(site, x, fitted, fitted.down, fitted.up), bias)


def _pair(site: Site, x: ir.Value, fitted: LowRankPairFit, bias: Bias) -> ir.Value:
    return layer(site, layer(site, x, fitted.down, None), fitted.up, bias)


def _two_products(site: Site, x: ir.Value, fitted: Fitted, down: NDArray[Any], up: NDArray[Any]) -> ir.Value:
    inner = site.node("MatMul", [x, matrix(site, fitted, "down", down.T)])
    return site.node("MatMul", [inner, matrix(site, fitted, "up", up.T)])


def _quantized(site: Site, x: ir.Value, fitted: QuantizedFit, bias: Bias) -> ir.Value:
    y = (_int3 if fitted.bits == 3 else _packed)(site, x, fitted, bias)
    if fitted.up.size:
        y = site.node("Add", [y, _two_products(site, x, fitted, fitted.down, fitted.up)])
    return y


def _packed(site: Site, x: ir.Value, fitted: QuantizedFit, bias: Bias) -> ir.Value:
    """2, 4 or 8 bits. Groups that lie beyond the inputs multiply zeros and are left out."""
    width, outputs = fitted.inputs, len(fitted.codes)
    if fitted.seed is not None:
        block = block_of(fitted.inputs)
        width = -(-fitted.inputs // block) * block
        x = site.rotation(x, fitted.inputs, fitted.seed, width)
    groups, size = -(-width // fitted.group), fitted.group * fitted.bits // 8
    packed = site.shared(
        fitted, "codes", lambda: pack(fitted.codes[:, : groups * fitted.group], fitted.bits).reshape(-1, groups, size)
    )
    scales = site.shared(fitted, "scales", lambda: fitted.scales[:, :groups])
    sizes = {"in_features": width, "out_features": outputs, "bits": fitted.bits, "group": fitted.group}
    return site.call("QuantizedLinear", [x, packed, scales, _or_zeros(site, bias, outputs)], sizes)


def _int3(site: Site, x: ir.Value, fitted: QuantizedFit, bias: Bias) -> ir.Value:
    packed = site.shared(fitted, "packed", lambda: int3.pack(fitted.codes))
    scales = site.shared(fitted, "scales", lambda: int3.pack_scales(fitted.scales))
    outputs = len(fitted.codes)
    sizes = {
        "in_features": fitted.inputs, "out_features": outputs, "group": fitted.group,
        "rotated": int(fitted.seed is not None), "seed": signed(fitted.seed or 0),
    }  # fmt: skip
    return site.call("Int3Linear", [x, packed, scales, _or_zeros(site, bias, outputs)], sizes)


def _circulant(site: Site, x: ir.Value, fitted: CirculantFit, bias: Bias) -> ir.Value:
    sizes = _sizes(fitted.in_features, fitted.out_features)
    sizes |= {"block": fitted.kernel.shape[2], "sign_seed": signed(fitted.seed)}
    return _structured(site, x, fitted, "CirculantLinear", {"kernel": fitted.kernel}, bias, sizes)


def _kronecker(site: Site, x: ir.Value, fitted: KroneckerFit, bias: Bias) -> ir.Value:
    (terms, d1, u1), (_, d2, u2) = fitted.left.shape, fitted.right.shape
    sizes = _sizes(fitted.in_features, fitted.out_features)
    sizes |= {"in_factors": [d1, d2], "out_factors": [u1, u2], "terms": terms}
    weights = {"left": fitted.left, "right": fitted.right}
    return _structured(site, x, fitted, "BilinearLinear", weights, bias, sizes)


def _monarch(site: Site, x: ir.Value, fitted: MonarchFit, bias: Bias) -> ir.Value:
    sizes = _sizes(fitted.in_features, fitted.out_features)
    sizes |= {"blocks": fitted.first.shape[0], "width": fitted.first.shape[1]}
    weights = {"first": fitted.first, "second": fitted.second}
    return _structured(site, x, fitted, "MonarchLinear", weights, bias, sizes)


def _eugen(site: Site, x: ir.Value, fitted: EUGenFit, bias: Bias) -> ir.Value:
    outputs, features = fitted.weight.shape
    attributes = _sizes(fitted.in_features, outputs)
    attributes |= {"features": features, "order": 1, "shared": 1, "norm": 0, "one": 0, "activation": 0}
    attributes |= _entries(fitted.seed, fitted.distribution)
    return _structured(site, x, fitted, "EUGenLinear", {"weight": fitted.weight}, bias, attributes)


def _prp(site: Site, x: ir.Value, fitted: PRPFit, bias: Bias) -> ir.Value:
    weights = {"in_scale": fitted.in_scale, "out_scale": fitted.out_scale}
    sizes = _sizes(len(fitted.in_scale), len(fitted.out_scale))
    if fitted.projection is not None:
        y = _structured(site, x, fitted, "PRPStoredLinear", {"projection": fitted.projection, **weights}, bias, sizes)
    elif fitted.distribution == "hadamard":
        sizes |= {"seed": signed(fitted.seed)}
        y = _structured(site, x, fitted, "PRPHadamardLinear", weights, bias, sizes)
    else:
        sizes |= _entries(fitted.seed, fitted.distribution)
        y = _structured(site, x, fitted, "PRPLinear", weights, bias, sizes)
    rank = len(fitted.low_rank_in)
    if rank:
        y = site.node("Add", [y, _two_products(site, x, fitted, fitted.low_rank_in, fitted.low_rank_out / rank)])
    return y


def _sizes(inputs: int, outputs: int) -> dict[str, Any]:
    return {"in_features": inputs, "out_features": outputs}


def _entries(seed: int, distribution: str) -> dict[str, Any]:
    """The attributes of a seeded matrix."""
    book = codebook(distribution)
    levels = [float(level) for level in book.levels]
    return {"seed": signed(seed), "distribution": distribution, "bits": book.bits, "codebook": levels}


def _structured(
    site: Site,
    x: ir.Value,
    fitted: Fitted,
    op: str,
    weights: Mapping[str, Array],
    bias: Bias,
    attributes: Mapping[str, Any],
) -> ir.Value:
    """A node edgefc::<op>(x, *weights, bias)."""
    held = [matrix(site, fitted, name, array) for name, array in weights.items()]
    return site.call(op, [x, *held, _or_zeros(site, bias, attributes["out_features"])], attributes)


_WRITE: dict[type[Fitted], Callable[[Site, ir.Value, Any, Bias], ir.Value]] = {
    HalfFit: _half,
    LowRankFit: _low_rank,
    LowRankPairFit: _pair,
    QuantizedFit: _quantized,
    CirculantFit: _circulant,
    KroneckerFit: _kronecker,
    MonarchFit: _monarch,
    EUGenFit: _eugen,
    PRPFit: _prp,
}
