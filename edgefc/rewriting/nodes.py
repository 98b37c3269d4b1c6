"""The nodes that compute each kind of fitted layer."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgefc.errors import UsageError
from edgefc.fitting.circulant import CirculantFit
from edgefc.fitting.eugen import EUGenFit
from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.kronecker import KroneckerFit
from edgefc.fitting.low_rank import LowRankFit
from edgefc.fitting.quantized import QuantizedFit
from edgefc.fitting.rotation import block_of
from edgefc.generator import codebook
from edgefc.layers.int3 import packing as int3
from edgefc.rewriting.editing import Editor
from edgefc.rewriting.functions import Functions
from edgefc.rewriting.packing import pack
from edgefc.rewriting.products import Product
from edgefc.rewriting.site import Site


class Writer:
    """Writes fitted layers in the place of products. Products with the same fit share its tensors."""

    def __init__(self, edit: Editor, functions: Functions) -> None:
        self._edit, self._functions = edit, functions
        self._stored: dict[tuple[int, str], ir.Value] = {}
        self._rotated: dict[tuple[int, int], tuple[ir.Value, ir.Value]] = {}

    def replace(self, product: Product, fitted: Fitted, storage: str | None) -> None:
        """Replaces the product.

        Args:
            fitted    its bias is the correction for the mean of the inputs, which is added to that of the product
            storage   of low-rank factors: None, "half" or "int8"

        Raises:
            UsageError: no node computes this kind of fit.
        """
        write = next((write for kind, write in _WRITE.items() if isinstance(fitted, kind)), None)
        if write is None:
            raise UsageError(f"an .onnx file has no form for {type(fitted).__name__}")
        site = Site(self._edit, self._functions, self._stored, self._rotated, product, fitted, storage)
        y = write(site)
        self._edit.replace(product.result, site.finish(y))
        _remove(product)


def _low_rank(site: Site) -> ir.Value:
    fitted = cast(LowRankFit, site.fitted)
    return _with_bias(site, _two_products(site, site.input(), fitted.down, fitted.up))


def _two_products(site: Site, x: ir.Value, down: NDArray[Any], up: NDArray[Any]) -> ir.Value:
    inner = site.node("MatMul", [x, site.factor("down", down.T)])
    return site.node("MatMul", [inner, site.factor("up", up.T)])


def _with_bias(site: Site, y: ir.Value) -> ir.Value:
    bias = site.bias()
    return y if bias is None else site.node("Add", [y, site.own("bias", bias)])


def _quantized(site: Site) -> ir.Value:
    fitted = cast(QuantizedFit, site.fitted)
    x = site.input()
    y = _int3(site, fitted, x) if fitted.bits == 3 else _packed(site, fitted, x)
    if fitted.up.size:
        site.storage = "half"
        y = site.node("Add", [y, _two_products(site, x, fitted.down, fitted.up)])
    return y


def _packed(site: Site, fitted: QuantizedFit, x: ir.Value) -> ir.Value:
    """2, 4 or 8 bits."""
    width, outputs = fitted.inputs, len(fitted.codes)
    if fitted.seed is not None:
        block = block_of(fitted.inputs)
        width = -(-fitted.inputs // block) * block
        x = site.rotation(x, fitted.inputs, fitted.seed, width)
    groups = -(-width // fitted.group)

    def codes() -> NDArray[np.uint8]:
        packed = pack(fitted.codes[:, : groups * fitted.group], fitted.bits)
        return packed.reshape(outputs, groups, fitted.group * fitted.bits // 8)

    inputs = [
        x,
        site.shared("codes", codes),
        site.shared("scales", lambda: fitted.scales[:, :groups]),
        site.bias_or_zeros(outputs),
    ]
    sizes = {"in_features": width, "out_features": outputs, "bits": fitted.bits, "group": fitted.group}
    return site.call("QuantizedLinear", [*inputs], sizes)


def _int3(site: Site, fitted: QuantizedFit, x: ir.Value) -> ir.Value:
    inputs = [
        x,
        site.shared("packed", lambda: int3.pack(fitted.codes)),
        site.shared("scales", lambda: int3.pack_scales(fitted.scales)),
        site.bias_or_zeros(len(fitted.codes)),
    ]
    sizes = {
        "in_features": fitted.inputs, "out_features": len(fitted.codes), "group": fitted.group,
        "rotated": int(fitted.seed is not None), "seed": signed(fitted.seed or 0),
    }  # fmt: skip
    return site.call("Int3Linear", [*inputs], sizes)


def _circulant(site: Site) -> ir.Value:
    fitted = cast(CirculantFit, site.fitted)
    sizes = {"block": fitted.kernel.shape[2], "sign_seed": signed(fitted.seed)}
    return _structured(site, "CirculantLinear", {"kernel": fitted.kernel}, sizes, fitted.out_features)


def _kronecker(site: Site) -> ir.Value:
    fitted = cast(KroneckerFit, site.fitted)
    (terms, d1, u1), (_, d2, u2) = fitted.left.shape, fitted.right.shape
    sizes = {"in_factors": [d1, d2], "out_factors": [u1, u2], "terms": terms}
    weights = {"left": fitted.left, "right": fitted.right}
    return _structured(site, "BilinearLinear", weights, sizes, fitted.out_features)


def _eugen(site: Site) -> ir.Value:
    fitted = cast(EUGenFit, site.fitted)
    outputs, features = fitted.weight.shape
    book = codebook(fitted.distribution)
    attributes = {
        "features": features, "order": 1, "shared": 1, "norm": 0, "one": 0, "activation": 0,
        "seed": signed(fitted.seed), "distribution": fitted.distribution, "bits": book.bits,
        "codebook": [float(level) for level in book.levels],
    }  # fmt: skip
    return _structured(site, "EUGenLinear", {"weight": fitted.weight}, attributes, outputs)


def _structured(
    site: Site, op: str, weights: Mapping[str, Array], attributes: Mapping[str, Any], outputs: int
) -> ir.Value:
    """A node edgefc::<op>(x, *weights, bias)."""
    held = [site.shared(name, partial(np.asarray, array, np.float32)) for name, array in weights.items()]
    sizes = {"in_features": site.fitted.in_features, "out_features": outputs}
    return site.call(op, [site.input(), *held, site.bias_or_zeros(outputs)], {**sizes, **attributes})


_WRITE: dict[type[Fitted], Callable[[Site], ir.Value]] = {
    LowRankFit: _low_rank,
    QuantizedFit: _quantized,
    CirculantFit: _circulant,
    KroneckerFit: _kronecker,
    EUGenFit: _eugen,
}


def signed(seed: int) -> int:
    """A seed as a file stores it, in two's complement."""
    return seed - (seed >> 63 << 64)


def _remove(product: Product) -> None:
    graph = product.place.graph
    for node in dict.fromkeys((product.last, product.place.node)):
        graph.remove(node, safe=True)
