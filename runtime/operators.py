"""Find nodes in an .onnx file that need a version of a domain or crash onnxruntime, without the onnx package.

Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto):

    ModelProto            graph 7, opset_import 8, functions 25
    GraphProto            node 1
    FunctionProto         node 7, opset_import 9, domain 10
    NodeProto             op_type 4, attribute 5, domain 7
    AttributeProto        g 6, ints 8, graphs 11
    OperatorSetIdProto    domain 1, version 2
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgefc.modelfile.protobuf import DEEPEST, Malformed, Message, Source, inside, opened, strings, varints

_STANDARD = ("", "ai.onnx")
_RECURRENT = {"LSTM": "an LSTM", "GRU": "a GRU"}
_TRANSPOSED = "a MatMul after a Transpose of its first axis"


class _Node(NamedTuple):
    op: str
    domain: str
    message: Message


def versions_of(path: Path, domain: str) -> frozenset[int]:
    """The versions of `domain` that the model and its functions import, if the file has nodes of that domain.

    The version 0 means that the graph has nodes of the domain but the model does not import it. The set is empty if no
    node has the domain, and for a file that is not a protobuf.
    """
    with opened(path) as source:
        try:
            in_graph = any(_mentions(source, node, domain) for node in inside(source, source.whole, 7, 1))
            in_function = any(_mentions(source, node, domain) for node in inside(source, source.whole, 25, 7))
            if not in_graph and not in_function:
                return frozenset()
            own = set(_imported(source, domain, 8))
            missing = {0} if in_graph and not own else set()
            return frozenset(own | missing | set(_imported(source, domain, 25, 9)))
        except Malformed:
            return frozenset()


def has_operator(path: Path, domain: str, op: str) -> bool:
    """Whether a node of the graph or of a function has that operator. False for a file that is not a protobuf."""
    with opened(path) as source:
        try:
            return any((node.domain, node.op) == (domain, op) for node in _all_nodes(source, None))
        except Malformed:
            return False


def ends_when_empty(path: Path, without: str | None = None) -> str | None:
    """The operator in a file that makes onnxruntime end the process for an input without elements, or None.

    There are three cases in onnxruntime 1.18 to 1.31. An LSTM aborts for a batch of 0. A GRU aborts for a batch or a
    sequence of 0. A MatMul whose operand is a Transpose is fused with it, and divides by zero if the Transpose moves a
    first axis of size 0.

    Args:
        without: a domain whose functions do not run, because a library implements their operators.
    """
    with opened(path) as source:
        try:
            transposes, multiplies = False, False
            for node in _all_nodes(source, without):
                if node.domain not in _STANDARD:
                    continue
                if node.op in _RECURRENT:
                    return _RECURRENT[node.op]
                transposes |= node.op == "Transpose" and _moves_the_first_axis(source, node)
                multiplies |= node.op == "MatMul"
        except Malformed:
            return None
    return _TRANSPOSED if transposes and multiplies else None


def _imported(source: Source, domain: str, *numbers: int) -> Iterator[int]:
    """The versions of a domain in the OperatorSetIds. `numbers` is their path of field numbers."""
    for each in inside(source, source.whole, *numbers):
        if strings(source, each, 1).get(1, b"") == domain.encode():
            version = [0, *varints(source, each, 2)][-1]
            yield version - (version >> 63 << 64)  # a negative int64 is stored as its complement


def _mentions(source: Source, node: Message, domain: str) -> bool:
    """Whether a node or a node in its subgraphs has that domain. A search for the text skips most nodes quickly."""
    ((start, end),) = node
    return source.has(domain.encode(), start, end) and any(each.domain == domain for each in _nested(source, node))


def _all_nodes(source: Source, without: str | None) -> Iterator[_Node]:
    """The nodes of the graph and of the functions, with those of their subgraphs."""
    for node in inside(source, source.whole, 7, 1):
        yield from _nested(source, node)
    for function in inside(source, source.whole, 25):
        domain = strings(source, function, 10).get(10, b"").decode(errors="replace")
        if without is None or domain != without:
            for node in inside(source, function, 7):
                yield from _nested(source, node)


def _nested(source: Source, node: Message, depth: int = 0) -> Iterator[_Node]:
    """A node, and the nodes of its subgraphs."""
    texts = strings(source, node, 4, 7)
    op, domain = (texts.get(number, b"").decode(errors="replace") for number in (4, 7))
    yield _Node(op, domain, node)
    if depth > DEEPEST:
        raise Malformed("subgraphs are nested more deeply than protobuf reads")
    for attribute in inside(source, node, 5):
        for number in (6, 11):
            for inner in inside(source, attribute, number, 1):
                yield from _nested(source, inner, depth + 1)


def _moves_the_first_axis(source: Source, transpose: _Node) -> bool:
    """Whether a Transpose of more than two axes moves the first one. Without perm, the axes are reversed."""
    axes = [axis for attribute in inside(source, transpose.message, 5) for axis in varints(source, attribute, 8)]
    return not axes or (len(axes) > 2 and axes[0] != 0)
