"""A product with a trained matrix.

It is y = x W^T + bias: a MatMul, with an Add of a constant vector after it, or a Gemm.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgefc.errors import UsageError
from edgefc.rewriting.constants import array_of, attribute, is_constant
from edgefc.rewriting.finding import Place

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
