"""A place in a graph where a product is replaced by a fitted layer, and the tensors and nodes that can be added there.

The new nodes compute in float32. For a product of another type there is a Cast before and after them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgefc.fitting.rotation import block_of
from edgefc.rewriting.constants import attribute
from edgefc.rewriting.editing import Editor
from edgefc.rewriting.functions import Functions
from edgefc.rewriting.products import Product
from edgefc.rewriting.storage import quantize

Array = NDArray[Any]

_GROUP = 128  # numbers that share a scale in low-rank factors of 8 bits


@dataclass
class Site:
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
        sizes = {"in_features": inputs, "out_features": width, "block": block, "seed": seed - (seed >> 63 << 64)}
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
            codes, scales, _ = quantize(array.T, _GROUP)
            wide, steps = (
                self.node("Cast", [self.shared(f"{what}.{name}", kept.copy)], {"to": ir.DataType.FLOAT})
                for name, kept in (("codes", codes), ("scales", scales))
            )
            shape = self.shared(f"{what}.shape", lambda: np.array(array.T.shape))
            return self.node("Transpose", [self.node("Reshape", [self.node("Mul", [wide, steps]), shape])])
        return self.shared(what, lambda: array.astype(np.float32))
