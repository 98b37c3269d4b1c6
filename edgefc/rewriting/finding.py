"""Finds the weights of a model that a plan can name, and what else uses them.

A place is one input of a node that reads a weight. Its kind says what can replace it:

    linear       a matrix of MatMul or Gemm, multiplied from the right
    table        the rows of Gather
    convolution  Conv, ConvTranspose
    recurrent    LSTM, GRU, RNN: the weights of the input and of the hidden state are two places
    matrix       any other constant of MatMul or Gemm, such as a batch of matrices

All graphs are searched, the bodies of If, Loop and Scan too. A weight may be stored in an outer graph, and in another
form than the node reads (constants.py). Local functions are not searched.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from edgefc.rewriting.constants import (
    FLOATS,
    Array,
    Root,
    array_of,
    attribute,
    data_inputs,
    is_constant,
    numbers,
    passes_on,
    roots_of,
    stored,
)
from edgefc.scopes import layer_of

LINEAR, TABLE, CONVOLUTION, RECURRENT, MATRIX = "linear", "table", "convolution", "recurrent", "matrix"

_INPUTS = {
    **dict.fromkeys(("MatMul", "Gemm"), (0, 1)),
    **dict.fromkeys(("Conv", "ConvTranspose"), (1,)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2)),
    "Gather": (0,),
}
"""The inputs that may be weights, by operator."""

_PARTS = {1: "W", 2: "R"}
"""The names of the weights of recurrent operators, as in the ONNX standard."""


@dataclass(frozen=True, eq=False)
class Place:
    """One input of a node that reads a weight.

    Attributes:
        node, index   the input
        kind          see above
        name          the name in the report
        names         the names that a plan can use: of the layer, of the node and of the stored tensors
        shape         of the weight as the node reads it
        dtype         its type as the node reads it
        roots         the stored tensors with its numbers
    """

    node: ir.Node
    index: int
    kind: str
    name: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: ir.DataType
    roots: tuple[Root, ...]

    @property
    def value(self) -> ir.Value:
        value = self.node.inputs[self.index]
        assert value is not None
        return value

    @property
    def graph(self) -> ir.Graph:
        graph = self.node.graph
        assert isinstance(graph, ir.Graph)
        return graph

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def types(self) -> tuple[str, ...]:
        return (self.node.op_type, self.kind)

    def array(self) -> Array:
        """The weight as the node reads it."""
        return array_of(self.value)


def find(model: ir.Model) -> list[Place]:
    """All places, in the order of the file.

    Raises:
        ModelError: an operator between a stored tensor and its node has invalid inputs.
    """
    places: list[Place] = []
    for node in model.graph.all_nodes():
        if node.domain in ("", "ai.onnx"):
            for index in _INPUTS.get(node.op_type, ()):
                place = _place(node, index)
                if place is not None:
                    places.append(place)
    return places


def _place(node: ir.Node, index: int) -> Place | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None or not is_constant(value) or (node.op_type in ("MatMul", "Gemm") and _all_constant(node)):
        return None
    array = array_of(value)
    dtype = ir.DataType.from_numpy(array.dtype)
    if array.ndim < 2 or array.size == 0 or dtype not in FLOATS:
        return None
    roots = tuple(root for root in roots_of(value) if numbers(root.value) > 1)
    kind = _kind(node, index, array.ndim)
    if kind is None or not roots:
        return None
    tensors = [root.value.name or "" for root in roots]
    part = f":{_PARTS[index]}" if kind == RECURRENT else ""
    layer = layer_of(node.name or "", node.metadata_props)
    names = dict.fromkeys(filter(None, (layer, node.name, *tensors)))
    name = (node.name or next(iter(names), node.op_type)) + part
    return Place(node, index, kind, name, tuple(names) or (name,), array.shape, dtype, roots)


def _all_constant(node: ir.Node) -> bool:
    return all(is_constant(value) for value in node.inputs[:2])


def _kind(node: ir.Node, index: int, axes: int) -> str | None:
    if node.op_type in ("MatMul", "Gemm"):
        return LINEAR if index == 1 and axes == 2 else MATRIX
    if node.op_type == "Gather":
        return TABLE if axes == 2 and attribute(node, "axis", 0) in (0, -2) else None
    return RECURRENT if node.op_type in ("LSTM", "GRU", "RNN") else CONVOLUTION


def shared(places: Sequence[Place]) -> list[list[Place]]:
    """Groups the places that have a stored tensor in common, in order."""
    first: dict[int, int] = {}  # the first place with a tensor
    parent = list(range(len(places)))

    def top(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for index, place in enumerate(places):
        for root in place.roots:
            a, b = top(first.setdefault(id(root.value), index)), top(index)
            parent[max(a, b)] = min(a, b)
    groups: dict[int, list[Place]] = {}
    for index, place in enumerate(places):
        groups.setdefault(top(index), []).append(place)
    return list(groups.values())


def other_users(places: Iterable[Place]) -> str | None:
    """Describes another use of the stored tensors of these places. Returns None if nothing else uses them."""
    given = list(places)
    own = {(id(place.node), place.index) for place in given}
    for root in {id(root.value): root for place in given for root in place.roots}.values():
        for use, value in _ends(root.value):
            if use is None:
                return f"{value.name!r} is an output of its graph"
            if (id(use.node), use.idx) not in own:
                return f"the {use.node.op_type} {use.node.name or '?'!r} uses it too"
    return None


def _ends(value: ir.Value) -> Iterator[tuple[Any, ir.Value]]:
    """The uses that compute with a stored tensor, and None for a graph output."""
    pending, seen = [value], set[int]()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if each.is_graph_output():
            yield None, each
        for use in each.uses():
            node = use.node
            if passes_on(node) and each in data_inputs(node) and all(map(is_constant, filter(None, node.inputs))):
                pending += node.outputs
            else:
                yield use, each


def is_direct(place: Place) -> bool:
    """Whether the node reads a stored tensor as it is."""
    return stored(place.value)
