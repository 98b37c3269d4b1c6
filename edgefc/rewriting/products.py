"""Replaces a product with a trained matrix by nodes that compute a fitted layer.

A product is y = x W^T + bias: a MatMul, with an Add of a constant vector after it, or a Gemm. The new nodes compute in
float32. For a product of another type there is a Cast before and after them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgefc.errors import UsageError
from edgefc.fitting.fitted import Fitted
from edgefc.fitting.low_rank import LowRankFit
from edgefc.fitting.quantized import QuantizedFit
from edgefc.fitting.rotation import block_of
from edgefc.rewriting.constants import array_of, attribute, is_constant
from edgefc.rewriting.editing import Editor
from edgefc.rewriting.finding import Place
from edgefc.rewriting.functions import Functions
from edgefc.rewriting.packing import pack
from edgefc.rewriting.storage import quantize

Array = NDArray[Any]

_GROUP = 128  # numbers that share a scale in low-rank factors of 8 bits


@dataclass(frozen=True)
class Product:
    """A product in a graph.

    Attributes:
        place    the weight
        bias     (m,) float64, or None
        result   the value that the product computes, with its bias
        last     the node that computes it
    """

    place: Place
    bias: Array | None
    result: ir.Value
    last: ir.Node

    def weight(self) -> Array:
        """W (m, n) in float64, with the factor alpha of a Gemm."""
        node, array = self.place.node, self.place.array().astype(np.float64)
        if node.op_type == "MatMul":
            return array.T
        return float(attribute(node, "alpha", 1.0)) * (array if attribute(node, "transB", 0) else array.T)


def product_of(place: Place) -> Product:
    """Describes the product that reads a weight.

    Raises:
        UsageError: a Gemm adds something else than a constant vector.
    """
    node = place.node
    if node.op_type == "Gemm":
        return Product(place, _gemm_bias(place), node.outputs[0], node)
    added = _addition(node, place.shape[1])
    if added is None:
        return Product(place, None, node.outputs[0], node)
    last, bias = added
    return Product(place, bias, last.outputs[0], last)


def _gemm_bias(place: Place) -> Array | None:
    node = place.node
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    outputs = place.shape[0 if attribute(node, "transB", 0) else 1]
    given = node.inputs[2]
    array = array_of(given).astype(np.float64) if is_constant(given) else None
    if array is None or array.size not in (1, outputs) or array.shape[-1:] not in ((), (1,), (outputs,)):
        raise UsageError("its Gemm adds a matrix that is not a constant vector")
    return float(attribute(node, "beta", 1.0)) * np.broadcast_to(array.reshape(-1), (outputs,))


def _addition(node: ir.Node, outputs: int) -> tuple[ir.Node, Array] | None:
    """The Add of a constant vector that is the only use of a MatMul."""
    value = node.outputs[0]
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    add = uses[0].node
    if add.op_type != "Add" or add.domain not in ("", "ai.onnx") or add.graph is not node.graph:
        return None
    other = add.inputs[1 - uses[0].idx]
    if other is None or not is_constant(other):
        return None
    array = array_of(other)
    return (add, array.astype(np.float64)) if array.shape == (outputs,) else None


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
        site = _Site(self._edit, self._functions, self._stored, self._rotated, product, fitted, storage)
        y = write(site)
        self._edit.replace(product.result, site.finish(y))
        _remove(product)


@dataclass
class _Site:
    """What a function of _WRITE needs to add nodes before the node that it replaces."""

    edit: Editor
    functions: Functions
    stored: dict[tuple[int, str], ir.Value]
    rotated: dict[tuple[int, int], tuple[ir.Value, ir.Value]]
    product: Product
    fitted: Any
    storage: str | None

    @property
    def name(self) -> str:
        return self.product.place.node.name or self.product.place.name

    def input(self) -> ir.Value:
        """x (..., n) in float32."""
        node = self.product.place.node
        x = node.inputs[0]
        assert x is not None
        if node.op_type == "Gemm" and attribute(node, "transA", 0):
            x = self.node("Transpose", [x], {"perm": [1, 0]})
        if self.product.place.dtype != ir.DataType.FLOAT:
            x = self.node("Cast", [x], {"to": ir.DataType.FLOAT})
        return x

    def finish(self, y: ir.Value) -> ir.Value:
        dtype = self.product.place.dtype
        return y if dtype == ir.DataType.FLOAT else self.node("Cast", [y], {"to": dtype})

    def bias(self) -> Array | None:
        """The bias (m,) float32 of the product with the correction of the fit; None for a product without both."""
        own, correction = self.product.bias, self.fitted.bias
        if own is None and (correction is None or not np.any(correction)):
            return None
        total = (0.0 if own is None else own) + (0.0 if correction is None else correction)
        return np.asarray(total, np.float32)

    def bias_or_zeros(self, outputs: int) -> ir.Value:
        bias = self.bias()
        return self.own("bias", np.zeros(outputs, np.float32) if bias is None else bias)

    def own(self, what: str, array: Array) -> ir.Value:
        """Stores a tensor of this product."""
        return self.edit.initializer(self.product.place.graph, f"{self.name}.{what}", np.ascontiguousarray(array))

    def shared(self, what: str, array: Callable[[], Array]) -> ir.Value:
        """Stores a tensor of the fit, once, in the graph of the first stored tensor of the weight."""
        key = (id(self.fitted), what)
        if key not in self.stored:
            graph = self.product.place.roots[0].graph
            self.stored[key] = self.edit.initializer(graph, f"{self.name}.{what}", np.ascontiguousarray(array()))
        return self.stored[key]

    def node(self, op: str, inputs: list[ir.Value | None], attributes: Mapping[str, Any] | None = None) -> ir.Value:
        node = self.product.place.node
        return self.edit.node(
            self.product.place.graph, op, inputs, attributes,
            before=self.product.last, name=f"{self.name}.{op}", metadata=node.metadata_props,
        )  # fmt: skip

    def call(self, op: str, inputs: list[ir.Value | None], attributes: Mapping[str, Any]) -> ir.Value:
        """Adds an edgefc:: node."""
        node = self.product.place.node
        domain, all_attributes = self.functions.use(op, attributes)
        return self.edit.node(
            self.product.place.graph, op, inputs, all_attributes, domain=domain,
            before=self.product.last, name=f"{self.name}.{op}", metadata=node.metadata_props,
        )  # fmt: skip

    def rotation(self, x: ir.Value, inputs: int, seed: int, width: int) -> ir.Value:
        """The rotated x. Products in the same graph share it if they have the same x."""
        key = (id(x), seed)
        if key in self.rotated and self.rotated[key][0].graph is self.product.place.graph:
            return self.rotated[key][1]
        block = block_of(inputs)
        sizes = {"in_features": inputs, "out_features": width, "block": block, "seed": seed}
        after = x.producer()
        domain, attributes = self.functions.use("HadamardRotation", sizes)
        place = {"before": self.product.last}
        if after is not None and after.graph is self.product.place.graph:
            place = {"after": after}
        y = self.edit.node(
            self.product.place.graph, "HadamardRotation", [x], attributes, domain=domain, name=f"{self.name}.rotation",
            metadata=self.product.place.node.metadata_props, **place,
        )  # fmt: skip
        if "after" in place:
            self.rotated[key] = x, y
        return y

    def factor(self, what: str, array: Array) -> ir.Value:
        """A matrix (n, r) that a MatMul multiplies by, in float32, stored as the plan says."""
        if self.storage == "half":
            half = self.shared(f"{what}.half", lambda: array.astype(np.float16))
            return self.node("Cast", [half], {"to": ir.DataType.FLOAT})
        if self.storage == "int8":
            codes, scales = quantize(array.T, _GROUP)
            wide, steps = (
                self.node("Cast", [self.shared(f"{what}.{name}", kept.copy)], {"to": ir.DataType.FLOAT})
                for name, kept in (("codes", codes), ("scales", scales))
            )
            shape = self.shared(f"{what}.shape", lambda: np.array(array.T.shape))
            return self.node("Transpose", [self.node("Reshape", [self.node("Mul", [wide, steps]), shape])])
        return self.shared(what, lambda: array.astype(np.float32))


def _low_rank(site: _Site) -> ir.Value:
    fitted = cast(LowRankFit, site.fitted)
    return _with_bias(site, _two_products(site, site.input(), fitted.down, fitted.up))


def _two_products(site: _Site, x: ir.Value, down: Array, up: Array) -> ir.Value:
    inner = site.node("MatMul", [x, site.factor("down", down.T)])
    return site.node("MatMul", [inner, site.factor("up", up.T)])


def _with_bias(site: _Site, y: ir.Value) -> ir.Value:
    bias = site.bias()
    return y if bias is None else site.node("Add", [y, site.own("bias", bias)])


def _quantized(site: _Site) -> ir.Value:
    fitted = cast(QuantizedFit, site.fitted)
    x = site.input()
    y = _int3(site, fitted, x) if fitted.bits == 3 else _packed(site, fitted, x)
    if fitted.up.size:
        site.storage = "half"
        y = site.node("Add", [y, _two_products(site, x, fitted.down, fitted.up)])
    return y


def _packed(site: _Site, fitted: QuantizedFit, x: ir.Value) -> ir.Value:
    """2, 4 or 8 bits."""
    width, outputs = fitted.inputs, len(fitted.codes)
    if fitted.seed is not None:
        block = block_of(fitted.inputs)
        width = -(-fitted.inputs // block) * block
        x = site.rotation(x, fitted.inputs, fitted.seed, width)
    groups = -(-width // fitted.group)

    def codes() -> Array:
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


def _int3(site: _Site, fitted: QuantizedFit, x: ir.Value) -> ir.Value:
    from edgefc.layers.int3 import packing

    inputs = [
        x,
        site.shared("packed", lambda: packing.pack(fitted.codes)),
        site.shared("scales", lambda: packing.pack_scales(fitted.scales)),
        site.bias_or_zeros(len(fitted.codes)),
    ]
    sizes = {
        "in_features": fitted.inputs, "out_features": len(fitted.codes), "group": fitted.group,
        "rotated": int(fitted.seed is not None), "seed": fitted.seed or 0,
    }  # fmt: skip
    return site.call("Int3Linear", [*inputs], sizes)


_WRITE: dict[type[Fitted], Callable[[_Site], ir.Value]] = {LowRankFit: _low_rank, QuantizedFit: _quantized}


def _remove(product: Product) -> None:
    graph = product.place.graph
    for node in dict.fromkeys((product.last, product.place.node)):
        graph.remove(node, safe=True)
