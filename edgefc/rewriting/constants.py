"""Constant values of a graph: initializers, Constant nodes, and what a few operators compute from them.

A weight is often stored in another form than the one that its node reads: transposed, in 16 or 8 bits, or as slices
of a tensor whose parts are in another order. array_of() computes the value that the node reads. roots_of() gives the
stored tensors.

The operators are those that move or convert numbers. None of them makes a tensor larger except Concat, and the size of
a result is checked before it is computed, because the file may be hostile.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgefc.errors import ModelError, shortened

Array = NDArray[Any]

FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE}
_DEEPEST = 64
_MOST_NUMBERS = 1 << 31
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Root:
    """A stored tensor, and the graph that stores it."""

    value: ir.Value
    graph: ir.Graph

    @property
    def bytes(self) -> int:
        return tensor_of(self.value).nbytes


def stored(value: ir.Value) -> bool:
    """Whether the file stores this value: an initializer that no input replaces, or the output of a Constant node."""
    node = value.producer()
    if node is None:
        return value.is_initializer() and value.const_value is not None and not value.is_graph_input()
    return _is(node, "Constant") and isinstance(_attribute(node, "value"), ir.TensorProtocol)


def tensor_of(value: ir.Value) -> ir.TensorProtocol:
    """The tensor of a stored value."""
    node = value.producer()
    tensor = value.const_value if node is None else _attribute(node, "value")
    assert isinstance(tensor, ir.TensorProtocol)
    return tensor


def is_constant(value: ir.Value | None) -> bool:
    """Whether array_of() can compute the value."""
    return value is not None and _constant(value, _DEEPEST, {})


def roots_of(value: ir.Value) -> list[Root]:
    """The stored tensors that a constant value is computed from, without those that give sizes and positions."""
    found: dict[int, Root] = {}
    _collect(value, found)
    return list(found.values())


def array_of(value: ir.Value, instead: Mapping[int, Array] | None = None) -> Array:
    """The constant value, in the type that its node reads.

    Args:
        instead: arrays by the id of a stored value: they are used in its place.

    Raises:
        ModelError: an operator on the way to the value has invalid inputs.
    """
    return _computed(value, dict(instead or {}))


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """The inputs of a node that its output has numbers from."""
    given = [value for value in node.inputs if value is not None]
    return given if _is(node, "Concat") else given[:1]


def passes_on(node: ir.Node) -> bool:
    """Whether a node only moves or converts numbers."""
    return node.domain in _STANDARD and node.op_type in _OPERATORS


def _constant(value: ir.Value, depth: int, known: dict[int, bool]) -> bool:
    if id(value) in known:
        return known[id(value)]
    node = value.producer()
    if stored(value):
        result = True
    elif node is None or depth == 0 or not passes_on(node) or len(node.outputs) != 1:
        result = False
    else:
        inputs = [each for each in node.inputs if each is not None]
        result = bool(inputs) and all(_constant(each, depth - 1, known) for each in inputs)
    known[id(value)] = result
    return result


def _collect(value: ir.Value, found: dict[int, Root]) -> None:
    pending, seen = [value], set[int]()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        node = each.producer()
        if stored(each):
            graph = each.graph if node is None else node.graph
            assert isinstance(graph, ir.Graph)
            found[id(each)] = Root(each, graph)
        elif node is not None:
            pending += data_inputs(node)


def _computed(value: ir.Value, known: dict[int, Array]) -> Array:
    if id(value) in known:
        return known[id(value)]
    if stored(value):
        result = tensor_of(value).numpy()
    else:
        node = value.producer()
        assert node is not None
        inputs = [None if each is None else _computed(each, known) for each in node.inputs]
        try:
            result = _OPERATORS[node.op_type](node, inputs)
        except (ValueError, TypeError, IndexError, ArithmeticError, AttributeError) as error:
            raise ModelError(
                f"node {shortened(node.name or '?', 80)!r}, a {node.op_type} of a weight, has inputs that do not fit: "
                f"{shortened(error, 100)}. Export the model again."
            ) from None
    known[id(value)] = result
    return result


def _transpose(node: ir.Node, given: Sequence[Any]) -> Array:
    perm = _attribute(node, "perm")
    return np.transpose(given[0], None if perm is None else list(perm))


def _cast(node: ir.Node, given: Sequence[Any]) -> Array:
    result: Array = given[0].astype(ir.DataType(_attribute(node, "to")).numpy())
    return result


def _reshape(node: ir.Node, given: Sequence[Any]) -> Array:
    sizes = [int(size) for size in given[1]]
    if not _attribute(node, "allowzero"):
        sizes = [given[0].shape[at] if size == 0 else size for at, size in enumerate(sizes)]
    result: Array = given[0].reshape(sizes)
    return result


def _axes(node: ir.Node, given: Sequence[Any]) -> list[int] | None:
    """The axes: an attribute up to opset 12, an input later."""
    axes = given[1] if len(given) > 1 and given[1] is not None else _attribute(node, "axes")
    return None if axes is None else [int(axis) for axis in axes]


def _squeeze(node: ir.Node, given: Sequence[Any]) -> Array:
    axes = _axes(node, given)
    result: Array = np.squeeze(given[0], None if axes is None else tuple(axes))
    return result


def _unsqueeze(node: ir.Node, given: Sequence[Any]) -> Array:
    return np.expand_dims(given[0], tuple(_axes(node, given) or ()))


def _slice(node: ir.Node, given: Sequence[Any]) -> Array:
    if len(given) > 1:
        starts, ends = given[1], given[2]
        axes = given[3] if len(given) > 3 and given[3] is not None else range(len(starts))
        steps = given[4] if len(given) > 4 and given[4] is not None else [1] * len(starts)
    else:
        starts, ends = _attribute(node, "starts"), _attribute(node, "ends")
        axes, steps = _attribute(node, "axes") or range(len(starts)), [1] * len(starts)
    cut = [slice(None)] * given[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # A negative end stays before the first entry for a negative step, as in ONNX.
        stop = None if step < 0 and int(end) < -given[0].shape[int(axis)] else int(end)
        cut[int(axis)] = slice(int(start), stop, int(step))
    result: Array = given[0][tuple(cut)]
    return result


def _concat(node: ir.Node, given: Sequence[Any]) -> Array:
    if sum(part.size for part in given) > _MOST_NUMBERS:
        raise ValueError(f"they have more than {_MOST_NUMBERS:,} numbers")
    return np.concatenate(given, int(_attribute(node, "axis")))


def _dequantize(node: ir.Node, given: Sequence[Any]) -> Array:
    codes, scale = given[0], given[1]
    zero = given[2] if len(given) > 2 else None
    axis = _attribute(node, "axis")
    axis, block = 1 if axis is None else int(axis), int(_attribute(node, "block_size") or 0)

    def spread(values: Array) -> Array:
        """One entry for each code, or for each index along the axis."""
        if block:
            grown = np.repeat(values.astype(np.float64), block, axis)
            return grown[tuple(slice(size) for size in codes.shape)]
        if values.ndim == 0 or values.size == 1:
            return values.astype(np.float64).reshape(())
        shape = [1] * codes.ndim
        shape[axis] = -1
        return values.astype(np.float64).reshape(shape)

    shifted = codes.astype(np.float64) - (0.0 if zero is None else spread(zero))
    result: Array = (shifted * spread(scale)).astype(scale.dtype)
    return result


def _same(node: ir.Node, given: Sequence[Any]) -> Array:
    result: Array = given[0]
    return result


_OPERATORS: dict[str, Callable[[ir.Node, Sequence[Any]], Array]] = {
    "Identity": _same,
    "Transpose": _transpose,
    "Cast": _cast,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Concat": _concat,
    "DequantizeLinear": _dequantize,
}


def _is(node: ir.Node, op: str) -> bool:
    return node.op_type == op and node.domain in _STANDARD


def _attribute(node: ir.Node, name: str) -> Any:
    found = node.attributes.get(name)
    return None if found is None or found.is_ref() else found.value


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """The value of an attribute of a node, or the default."""
    value = _attribute(node, name)
    return default if value is None else value


def numbers(value: ir.Value) -> int:
    """The number of values of a stored tensor."""
    return math.prod(tensor_of(value).shape.numpy())
