"""What an .onnx file says of itself, read without the onnx package: its weights files, nodes and operator versions.

Weights lie in the initializers of graphs and in the attributes of nodes, at any depth: the body of an If is a graph in
an attribute. edgefc.external says which places onnxruntime accepts for weights outside the file.

A protobuf message is a sequence of fields: a varint key (number * 8 + wire type) and a value. Weights inside the file
are skipped. Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto):

    ModelProto            graph 7, opset_import 8, functions 25
    GraphProto            node 1, initializer 5
    FunctionProto         node 7, opset_import 9, domain 10
    NodeProto             name 3, op_type 4, attribute 5, domain 7
    AttributeProto        name 1, g 6, ints 8, graphs 11
    TensorProto           external_data 13 > key 1, value 2
    OperatorSetIdProto    domain 1, version 2
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from edgefc.errors import ModelError
from edgefc.external import is_inside

_VARINT, _EIGHT_BYTES, _LENGTH, _GROUP, _GROUP_END, _FOUR_BYTES = range(6)  # wire types
_STEP = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_NO_PROTOBUF = (IndexError, ValueError)  # raised for an .ort file, say, or a file that was cut short
_DEEPEST = 100  # messages within messages: protobuf itself reads no more than that

# What lies in which field of which message, for the search for weights.
_HOLDS = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external_data"},
}

_STANDARD = ("", "ai.onnx")
_RECURRENT = {"LSTM": "an LSTM", "GRU": "a GRU"}
_TURNED = "a MatMul after a Transpose of its first axis"


class _Field(NamedTuple):
    """A value with a length lies from start to end. A varint has its value, and an empty span."""

    number: int
    start: int
    end: int
    value: int


class _Node(NamedTuple):
    op: str
    name: str
    domain: str
    start: int
    end: int


def weight_files(path: Path) -> list[Path]:
    """Those that exist, each once, in the order of first use; none for a file that is no protobuf (.ort, say).

    Raises:
        ModelError: one lies outside the model's folder. Who wrote the file chose the name, and it may be read and sent.
    """
    with _mapped(path) as data:
        try:
            names = list(dict.fromkeys(_locations(data, "model", 0, len(data))))
        except _NO_PROTOBUF:
            return []
    for name in names:
        if not is_inside(path, name):
            raise ModelError(
                f"cannot load {path}: its weights {name!r} lie outside its folder. Save it with them beside it."
            )
    return [path.parent / name for name in names if (path.parent / name).is_file()]


def versions_of(path: Path, domain: str) -> frozenset[int]:
    """The versions of `domain` that a file with nodes of that domain imports, in the model and in its functions.

    0 stands for nodes of the graph whose domain the model does not import. Empty without such nodes, and for a file
    that is no protobuf.
    """
    with _mapped(path) as data:
        try:
            whole = (0, len(data))
            in_graph = any(_mentions(data, node, domain) for node in _inside(data, whole, 7, 1))
            in_function = any(_mentions(data, node, domain) for node in _inside(data, whole, 25, 7))
            if not in_graph and not in_function:
                return frozenset()
            own = set(_imported(data, domain, 8))
            missing = {0} if in_graph and not own else set()
            return frozenset(own | missing | set(_imported(data, domain, 25, 9)))
        except _NO_PROTOBUF:
            return frozenset()


def ends_when_empty(path: Path, without: str | None = None) -> str | None:
    """What in a file makes onnxruntime end the process on an input without elements, or None.

    Known of onnxruntime 1.18 to 1.31: an LSTM with a batch of 0 and a GRU with a batch or a sequence of 0 abort, and a
    MatMul divides by zero when its operand is a Transpose that moves a first axis of 0 (the two are fused).

    Args:
        without: a domain whose functions do not run, because a library has their operators.
    """
    with _mapped(path) as data:
        try:
            turns, multiplies = False, False
            for node in _all_nodes(data, without):
                if node.domain not in _STANDARD:
                    continue
                if node.op in _RECURRENT:
                    return _RECURRENT[node.op]
                turns |= node.op == "Transpose" and _moves_the_first_axis(data, node)
                multiplies |= node.op == "MatMul"
        except _NO_PROTOBUF:
            return None
    return _TURNED if turns and multiplies else None


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _locations(data: mmap.mmap, message: str, at: int, stop: int, depth: int = 0) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError(f"messages are nested more than {_DEEPEST} deep")
    if message == "external_data":
        texts = {number: data[start:end] for number, start, end in fields(data, at, stop)}
        if texts.get(1) == b"location" and 2 in texts:
            yield _text(texts[2])
        return
    for number, start, end in fields(data, at, stop):
        if number in _HOLDS[message]:
            yield from _locations(data, _HOLDS[message][number], start, end, depth + 1)


def fields(data: mmap.mmap, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field with a length."""
    return ((field.number, field.start, field.end) for field in _fields(data, at, stop) if field.value < 0)


def numbers(data: mmap.mmap, at: int, stop: int, wanted: int) -> Iterator[int]:
    """The varints of one field, each in a field of its own or several packed into one."""
    for field in _fields(data, at, stop):
        if field.number == wanted:
            yield from [field.value] if field.value >= 0 else _packed(data, field)


def _imported(data: mmap.mmap, domain: str, *numbers: int) -> Iterator[int]:
    """The versions of a domain among the OperatorSetIds at the end of a path."""
    for each in _inside(data, (0, len(data)), *numbers):
        name, version = "", 0
        for field in _fields(data, each.start, each.end):
            if field.number == 1:
                name = _text(data[field.start : field.end])
            elif field.number == 2 and field.value >= 0:
                version = field.value - (field.value >> 63 << 64)  # a negative int64 is stored as its complement
        if name == domain:
            yield version


def _mentions(data: mmap.mmap, node: _Field, domain: str) -> bool:
    """Whether a node, or one in its subgraphs, has that domain: a search for the bytes of the field `domain`."""
    return data.find(bytes([7 << 3 | _LENGTH, len(domain)]) + domain.encode(), node.start, node.end) >= 0


def _all_nodes(data: mmap.mmap, without: str | None) -> Iterator[_Node]:
    """Of the graph and the functions, subgraphs included."""
    whole = (0, len(data))
    for field in _inside(data, whole, 7, 1):
        yield from _nested(data, field)
    for function in _inside(data, whole, 25):
        span = function.start, function.end
        domains = [_text(data[field.start : field.end]) for field in _inside(data, span, 10)]
        if without is None or without not in domains:
            for field in _inside(data, span, 7):
                yield from _nested(data, field)


def _nested(data: mmap.mmap, field: _Field, depth: int = 0) -> Iterator[_Node]:
    """A node, and those of its subgraphs."""
    yield _node(data, field)
    if depth > _DEEPEST:
        raise ValueError("more subgraphs within subgraphs than protobuf reads")
    for attribute in _inside(data, (field.start, field.end), 5):
        for graph in _fields(data, attribute.start, attribute.end):
            if graph.number in (6, 11):
                for node in _inside(data, (graph.start, graph.end), 1):
                    yield from _nested(data, node, depth + 1)


def _node(data: mmap.mmap, span: _Field) -> _Node:
    texts = {
        field.number: _text(data[field.start : field.end])
        for field in _fields(data, span.start, span.end)
        if field.number in (3, 4, 7)
    }
    return _Node(texts.get(4, ""), texts.get(3, ""), texts.get(7, ""), span.start, span.end)


def _moves_the_first_axis(data: mmap.mmap, transpose: _Node) -> bool:
    """Without perm the axes are reversed. Of two axes, none is that of a stack of matrices."""
    axes: list[int] = []
    for attribute in _inside(data, (transpose.start, transpose.end), 5):
        for field in _fields(data, attribute.start, attribute.end):
            if field.number == 8:
                axes += [field.value] if field.end == field.start else _packed(data, field)
    return not axes or (len(axes) > 2 and axes[0] != 0)


def _packed(data: mmap.mmap, field: _Field) -> list[int]:
    values, at = [], field.start
    while at < field.end:
        value, at = _varint(data, at)
        values.append(value)
    return values


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _inside(data: mmap.mmap, span: tuple[int, int], *numbers: int) -> Iterator[_Field]:
    """The fields with a length at the end of a path of field numbers."""
    for field in _fields(data, *span):
        if field.number == numbers[0] and field.value < 0:
            yield from _inside(data, (field.start, field.end), *numbers[1:]) if numbers[1:] else [field]


def _fields(data: mmap.mmap, at: int, stop: int) -> Iterator[_Field]:
    """Each field with a length, whose value is -1, and each varint. Others are skipped, unknown groups too."""
    open_groups: list[int] = []
    while at < stop:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _LENGTH:
            size, at = _varint(data, at)
            if at + size > stop:
                raise ValueError("a field ends outside its message")
            if not open_groups:
                yield _Field(number, at, at + size, -1)
            at += size
        elif wire == _VARINT:
            value, at = _varint(data, at)
            if not open_groups:
                yield _Field(number, at, at, value)
        elif wire in _STEP:
            at += _STEP[wire]
        elif wire == _GROUP:
            open_groups.append(number)
        elif wire != _GROUP_END or not open_groups or open_groups.pop() != number:
            raise ValueError(f"wire type {wire} where none can be")
    if open_groups:
        raise ValueError("a group does not end")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """The number at a position, and the position after it: seven bits a byte, low ones first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
    raise ValueError("a varint is longer than ten bytes")
