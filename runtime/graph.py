"""The graph of an .onnx file, read without the onnx package: nodes, names, and the types and shapes of its weights.

Field numbers of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), read by protobuf.py:

    ModelProto       graph 7, functions 25
    FunctionProto    name 1, node 7, domain 10
    GraphProto       node 1, initializer 5
    NodeProto        input 1, output 2, name 3, op_type 4, attribute 5, domain 7, metadata_props 9
    AttributeProto   g 6, graphs 11
    TensorProto      dims 1, data_type 2, name 8
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgefc.modelfile.protobuf import Malformed, Message, Source, fields, inside, merged, opened, strings, varints

_DEEPEST = 64  # the nesting of subgraphs; the same limit as in edgefc.modelfile.functions

TYPES = {
    1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "double", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4e2m1", 24: "float8e8m0", 25: "uint2", 26: "int2",
}  # fmt: skip
"""Names of TensorProto.DataType."""


@dataclass(frozen=True)
class Tensor:
    """A weight: name, dtype and shape, without its values."""

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
    """Read the graph of a file.

    Raises:
        ValueError: the file is not an ONNX file.
    """
    with opened(path) as source:
        return _model(source)


def _model(source: Source) -> Model:
    functions = [_texts(source, each, 10, 1) for each in inside(source, source.whole, 25)]
    return Model(
        _graph(source, merged(source, source.whole, 7), 0), frozenset((domain, name) for domain, name in functions)
    )


def _graph(source: Source, message: Message, depth: int) -> Graph:
    if depth > _DEEPEST:
        raise Malformed(f"graphs are nested more than {_DEEPEST} deep")
    nodes, weights = [], {}
    for number, start, end, value in fields(source, message):
        if number == 1 and value < 0:
            nodes.append(_node(source, ((start, end),), depth))
        elif number == 5 and value < 0:
            tensor = _tensor(source, ((start, end),))
            weights[tensor.name] = tensor
    return Graph(tuple(nodes), weights)


def _node(source: Source, message: Message, depth: int) -> Node:
    inputs, outputs, graphs, metadata = [], [], [], {}
    texts: dict[int, str] = {}
    for number, start, end, value in fields(source, message):
        if value >= 0:
            continue
        if number == 1:
            inputs.append(source.text(start, end))
        elif number == 2:
            outputs.append(source.text(start, end))
        elif number in (3, 4, 7):
            texts[number] = source.text(start, end)
        elif number == 5:
            graphs += _graphs(source, ((start, end),), depth + 1)
        elif number == 9:
            key, text = _texts(source, ((start, end),), 1, 2)
            metadata[key] = text
    name, op, domain = (texts.get(number, "") for number in (3, 4, 7))
    return Node(name, op, domain, tuple(inputs), tuple(outputs), metadata, tuple(graphs))


def _graphs(source: Source, attribute: Message, depth: int) -> list[Graph]:
    one = merged(source, attribute, 6)
    messages = [one, *inside(source, attribute, 11)] if one else list(inside(source, attribute, 11))
    return [_graph(source, each, depth) for each in messages]


def _tensor(source: Source, message: Message) -> Tensor:
    dtype = [0, *varints(source, message, 2)][-1]
    return Tensor(_texts(source, message, 8)[0], TYPES.get(dtype, "undefined"), tuple(varints(source, message, 1)))


def _texts(source: Source, message: Message, *numbers: int) -> list[str]:
    texts = strings(source, message, *numbers)
    return [texts.get(number, b"").decode(errors="replace") for number in numbers]
