"""The attributes of edgefc nodes, checked before onnxruntime computes with them: some make it allocate without end.

Field numbers of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), read as in external.py:

    ModelProto       graph 7, functions 25
    FunctionProto    name 1, attribute 6, domain 10
    GraphProto       node 1, initializer 5, input 11
    NodeProto        input 1, name 3, op_type 4, attribute 5, domain 7
    AttributeProto   name 1, f 2, i 3, s 4, floats 7, ints 8, type 20, ref_attr_name 21
    TensorProto      dims 1, name 8
    ValueInfoProto   name 1, type 2 > tensor_type 1 > shape 2 > dim 1 > dim_value 1
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgefc.attributes import fault
from edgefc.errors import ModelError
from edgefc.runtime.external import fields, numbers

_NO_PROTOBUF = (IndexError, ValueError, struct.error)
_LONGEST = 1 << 16  # bytes of one attribute: a codebook has at most 256 numbers
_FLOAT, _INT, _STRING, _FLOATS, _INTS = 1, 2, 3, 6, 7  # AttributeProto.AttributeType

Span = tuple[int, int]


def check(path: Path, domain: str) -> None:
    """Check the nodes of the main graph.

    Raises:
        ModelError: a node has an attribute that no layer has. The sentence names the node, the attribute and its value.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(domain.encode()) < 0:
            return
        try:
            found = next(_faults(data, domain), None)
        except _NO_PROTOBUF:  # no protobuf, an .ort file say; onnxruntime tells of the rest
            return
    if found is not None:
        raise ModelError(f"cannot load {path}: {found}. Export it again.")


def _faults(data: mmap.mmap, domain: str) -> Iterator[str]:
    mark = bytes([7 << 3 | 2, len(domain)]) + domain.encode()  # the field `domain` of a node, found without reading it
    needed = dict(_needed(data, domain))
    for graph in _inside(data, (0, len(data)), 7):
        nodes = [
            span for span in _inside(data, graph, 1)
            if data.find(mark, *span) >= 0 and _text(data, span, 7) == domain
        ]  # fmt: skip
        shapes = _shapes(data, graph) if nodes else {}
        for node in nodes:
            op, inputs = _text(data, node, 4), [_decoded(data, each) for each in _inside(data, node, 1)]
            stored = {place: shapes[name] for place, name in enumerate(inputs) if name in shapes}
            attributes = dict(_attribute(data, span) for span in _inside(data, node, 5))
            known = {name: value for name, value in attributes.items() if value is not _REFERENCE}
            said = fault(op, known, stored, [name for name in needed.get(op, []) if name not in attributes])
            if said is not None:
                yield f"its node {_text(data, node, 3)!r}, an {domain}::{op}, {said}"


def _needed(data: mmap.mmap, domain: str) -> Iterator[tuple[str, list[str]]]:
    """Each function of the domain, and the attributes that its nodes cannot do without."""
    for function in _inside(data, (0, len(data)), 25):
        texts: dict[int, list[str]] = {1: [""], 6: [], 10: [""]}
        for number, start, end in fields(data, *function):  # once: most fields are nodes, often hundreds
            if number in texts:
                texts[number].append(_decoded(data, (start, end)))
        if texts[10][-1] == domain:
            yield texts[1][-1], texts[6]


def _shapes(data: mmap.mmap, graph: Span) -> Mapping[str, Sequence[int | None]]:
    """Of stored weights, and of the inputs of the graph."""
    found: dict[str, Sequence[int | None]] = {}
    for span in _inside(data, graph, 11):
        for shape in _path(data, span, 2, 1, 2):
            sizes = [next(numbers(data, *axis, 1), None) for axis in _inside(data, shape, 1)]
            found[_text(data, span, 1)] = sizes
    return found | {_text(data, span, 8): list(numbers(data, *span, 1)) for span in _inside(data, graph, 5)}


def _path(data: mmap.mmap, span: Span, *path: int) -> Iterator[Span]:
    """The messages at the end of a path of field numbers."""
    for each in _inside(data, span, path[0]):
        yield from _path(data, each, *path[1:]) if path[1:] else [each]


_REFERENCE = object()  # the value of an attribute that a function passes on


def _attribute(data: mmap.mmap, span: Span) -> tuple[str, Any]:
    """The name, and the value: None where it is of another type than the attributes of edgefc nodes."""
    if span[1] - span[0] > _LONGEST:
        return _text(data, span, 1), None
    found: dict[int, list[Any]] = {}
    for number, value in _values(data[span[0] : span[1]]):
        found.setdefault(number, []).append(value)
    name = found.get(1, [b""])[-1].decode(errors="replace")
    if found.get(21):
        return name, _REFERENCE
    kind = found.get(20, [0])[-1]
    if kind == _STRING:
        return name, found.get(4, [b""])[-1].decode(errors="replace")
    if kind in (_INT, _FLOAT):
        return name, found.get(3, [0])[-1] if kind == _INT else found.get(2, [0.0])[-1]
    return name, list(_flat(found, kind)) if kind in (_INTS, _FLOATS) else None


def _flat(found: Mapping[int, list[Any]], kind: int) -> Iterator[Any]:
    """The numbers of a list, each in a field of its own or several packed into one."""
    for value in found.get(8 if kind == _INTS else 7, []):
        if not isinstance(value, bytes):
            yield value
        elif kind == _FLOATS:
            yield from (each for (each,) in struct.iter_unpack("<f", value))
        else:
            at = 0
            while at < len(value):
                number, at = _varint(value, at)
                yield _signed(number)


def _values(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: int, float or bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, _signed(value)
        elif wire == 2:
            size, at = _varint(message, at)
            yield number, message[at : at + size]
            at += size
        elif wire == 5:
            yield number, struct.unpack_from("<f", message, at)[0]
            at += 4
        elif wire == 1:
            at += 8
        else:
            raise ValueError(f"wire type {wire} in an attribute")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
        if byte < 128:
            return value & (1 << 64) - 1, at
        if shift > 63:
            raise ValueError("a varint is longer than ten bytes")


def _signed(value: int) -> int:
    return value - (value >> 63 << 64)


def _inside(data: mmap.mmap, span: Span, number: int) -> Iterator[Span]:
    return ((start, end) for found, start, end in fields(data, *span) if found == number)


def _text(data: mmap.mmap, span: Span, number: int) -> str:
    found = list(_inside(data, span, number))
    return _decoded(data, found[-1]) if found else ""


def _decoded(data: mmap.mmap, span: Span) -> str:
    return data[span[0] : span[1]].decode(errors="replace")
