"""The graph of an .onnx file, read without the onnx package: nodes, names, and the types and shapes of its weights.

Field numbers of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), read as in external.py:

    ModelProto       graph 7, functions 25
    FunctionProto    name 1, node 7, domain 10
    GraphProto       node 1, initializer 5
    NodeProto        input 1, output 2, name 3, op_type 4, attribute 5, domain 7, metadata_props 9
    AttributeProto   g 6, graphs 11
    TensorProto      dims 1, data_type 2, name 8
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgefc.runtime.external import fields, numbers

_DEEPEST = 32  # subgraphs within subgraphs

TYPES = {
    1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "double", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2",
}  # fmt: skip
"""TensorProto.DataType."""


@dataclass(frozen=True)
class Tensor:
    """A weight, without its numbers."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One node; `graphs` are the bodies of an If, Loop or Scan."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: Mapping[str, str]
    graphs: tuple[Graph, ...]


@dataclass(frozen=True)
class Graph:
    """Nodes in the order of the file, and weights by name."""

    nodes: tuple[Node, ...]
    weights: Mapping[str, Tensor]

    def all_nodes(self) -> Iterator[Node]:
        """The nodes of this graph and of the graphs inside its nodes."""
        for node in self.nodes:
            yield node
            for graph in node.graphs:
                yield from graph.all_nodes()


@dataclass(frozen=True)
class Model:
    """The main graph, and the (domain, name) of every local function."""

    graph: Graph
    functions: frozenset[tuple[str, str]]


def read(path: Path) -> Model:
    """The graph of a file.

    Raises:
        ValueError: the file is no ONNX file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _model(data)
        except IndexError:
            raise ValueError("a message ends early") from None


def _model(data: mmap.mmap) -> Model:
    graph, functions = Graph((), {}), set()
    for number, start, end in fields(data, 0, len(data)):
        if number == 7:
            graph = _graph(data, start, end, 0)
        elif number == 25:
            texts = _texts(data, start, end, (1, 10))
            functions.add((texts.get(10, ""), texts.get(1, "")))
    return Model(graph, frozenset(functions))


def _graph(data: mmap.mmap, start: int, end: int, depth: int) -> Graph:
    if depth > _DEEPEST:
        raise ValueError(f"graphs are nested more than {_DEEPEST} deep")
    nodes, weights = [], {}
    for number, at, stop in fields(data, start, end):
        if number == 1:
            nodes.append(_node(data, at, stop, depth))
        elif number == 5:
            tensor = _tensor(data, at, stop)
            weights[tensor.name] = tensor
    return Graph(tuple(nodes), weights)


def _node(data: mmap.mmap, start: int, end: int, depth: int) -> Node:
    inputs, outputs, graphs, metadata = [], [], [], {}
    texts: dict[int, str] = {}
    for number, at, stop in fields(data, start, end):
        if number == 1:
            inputs.append(_text(data, at, stop))
        elif number == 2:
            outputs.append(_text(data, at, stop))
        elif number in (3, 4, 7):
            texts[number] = _text(data, at, stop)
        elif number == 5:
            found = [each for each in fields(data, at, stop) if each[0] in (6, 11)]
            graphs += [_graph(data, first, last, depth + 1) for _, first, last in found]
        elif number == 9:
            entry = _texts(data, at, stop, (1, 2))
            metadata[entry.get(1, "")] = entry.get(2, "")
    name, op, domain = (texts.get(number, "") for number in (3, 4, 7))
    return Node(name, op, domain, tuple(inputs), tuple(outputs), metadata, tuple(graphs))


def _tensor(data: mmap.mmap, start: int, end: int) -> Tensor:
    dtype = next(numbers(data, start, end, 2), 0)
    name = _texts(data, start, end, (8,)).get(8, "")
    return Tensor(name, TYPES.get(dtype, "undefined"), tuple(numbers(data, start, end, 1)))


def _texts(data: mmap.mmap, start: int, end: int, wanted: tuple[int, ...]) -> dict[int, str]:
    return {number: _text(data, at, stop) for number, at, stop in fields(data, start, end) if number in wanted}


def _text(data: mmap.mmap, start: int, end: int) -> str:
    return data[start:end].decode("utf-8", "replace")
