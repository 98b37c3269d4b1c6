"""What the nodes of an .onnx file ask of onnxruntime, read without the onnx package.

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
_TURNED = "a MatMul after a Transpose of its first axis"


class _Node(NamedTuple):
    op: str
    domain: str
    message: Message


def versions_of(path: Path, domain: str) -> frozenset[int]:
    """The versions of `domain` that a file with nodes of that domain imports, in the model and in its functions.

    0 stands for nodes of the graph whose domain the model does not import. Empty without such nodes, and for a file
    that is no protobuf.
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


def ends_when_empty(path: Path, without: str | None = None) -> str | None:
    """What in a file makes onnxruntime end the process on an input without elements, or None.

    Known of onnxruntime 1.18 to 1.31: an LSTM with a batch of 0 and a GRU with a batch or a sequence of 0 abort, and a
    MatMul divides by zero when its operand is a Transpose that moves a first axis of 0 (the two are fused).

    Args:
        without: a domain whose functions do not run, because a library has their operators.
    """
    with opened(path) as source:
        try:
            turns, multiplies = False, False
            for node in _all_nodes(source, without):
                if node.domain not in _STANDARD:
                    continue
                if node.op in _RECURRENT:
                    return _RECURRENT[node.op]
                turns |= node.op == "Transpose" and _moves_the_first_axis(source, node)
                multiplies |= node.op == "MatMul"
        except Malformed:
            return None
    return _TURNED if turns and multiplies else None


def _imported(source: Source, domain: str, *numbers: int) -> Iterator[int]:
    """The versions of a domain among the OperatorSetIds at the end of a path."""
    for each in inside(source, source.whole, *numbers):
        if strings(source, each, 1).get(1, b"") == domain.encode():
            version = [0, *varints(source, each, 2)][-1]
            yield version - (version >> 63 << 64)  # a negative int64 is stored as its complement


def _mentions(source: Source, node: Message, domain: str) -> bool:
    """Whether a node, or one in its subgraphs, has that domain. Most do not have its letters."""
    ((start, end),) = node
    return source.has(domain.encode(), start, end) and any(each.domain == domain for each in _nested(source, node))


def _all_nodes(source: Source, without: str | None) -> Iterator[_Node]:
    """Of the graph and the functions, subgraphs included."""
    for node in inside(source, source.whole, 7, 1):
        yield from _nested(source, node)
    for function in inside(source, source.whole, 25):
        domain = strings(source, function, 10).get(10, b"").decode(errors="replace")
        if without is None or domain != without:
            for node in inside(source, function, 7):
                yield from _nested(source, node)


def _nested(source: Source, node: Message, depth: int = 0) -> Iterator[_Node]:
    """A node, and those of its subgraphs."""
    texts = strings(source, node, 4, 7)
    op, domain = (texts.get(number, b"").decode(errors="replace") for number in (4, 7))
    yield _Node(op, domain, node)
    if depth > DEEPEST:
        raise Malformed("more subgraphs within subgraphs than protobuf reads")
    for attribute in inside(source, node, 5):
        for number in (6, 11):
            for inner in inside(source, attribute, number, 1):
                yield from _nested(source, inner, depth + 1)


def _moves_the_first_axis(source: Source, transpose: _Node) -> bool:
    """Without perm the axes are reversed. Of two axes, none is that of a stack of matrices."""
    axes = [axis for attribute in inside(source, transpose.message, 5) for axis in varints(source, attribute, 8)]
    return not axes or (len(axes) > 2 and axes[0] != 0)
