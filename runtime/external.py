"""Which files beside an .onnx file hold its weights, read from the file itself without the onnx package.

Weights lie in the initializers of graphs and in the attributes of nodes, at any depth: the body of an If is a graph in
an attribute. A field of a serialised message is a varint key (number * 8 + wire type) and a value; weights inside the
file are stepped over, not read. edgefc.external says which places onnxruntime accepts.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from edgefc.errors import ModelError
from edgefc.external import is_inside

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_STEP = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_DEEPEST = 100  # messages within messages, as protobuf has it

# What lies in which field of which message: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_HOLDS = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external_data"},
}


def weight_files(path: Path) -> list[Path]:
    """Those that exist, each once, in the order of first use; none for a file that is no protobuf (.ort, say).

    Raises:
        ModelError: one lies outside the model's folder. Who wrote the file chose the name, and it may be read and sent.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            names = list(dict.fromkeys(_locations(data, "model", 0, len(data))))
        except (IndexError, ValueError):
            return []
    for name in names:
        if not is_inside(path, name):
            raise ModelError(
                f"cannot load {path}: its weights {name!r} lie outside its folder. Save it with them beside it."
            )
    return [path.parent / name for name in names if (path.parent / name).is_file()]


def _locations(data: mmap.mmap, message: str, at: int, stop: int, depth: int = 0) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError(f"messages are nested more than {_DEEPEST} deep")
    if message == "external_data":
        texts = {number: data[start:end] for number, start, end in fields(data, at, stop)}
        if texts.get(1) == b"location" and 2 in texts:
            yield texts[2].decode()
        return
    for number, start, end in fields(data, at, stop):
        if number in _HOLDS[message]:
            yield from _locations(data, _HOLDS[message][number], start, end, depth + 1)


def fields(data: mmap.mmap, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field with a length."""
    return ((number, start, end) for number, wire, start, end in _all_fields(data, at, stop) if wire == _LENGTH)


def numbers(data: mmap.mmap, at: int, stop: int, wanted: int) -> Iterator[int]:
    """The varints of one field, each in a field of its own or several packed into one."""
    for number, wire, start, end in _all_fields(data, at, stop):
        if number == wanted and wire in (_VARINT, _LENGTH):
            while start < end:
                value, start = _varint(data, start)
                yield value


def _all_fields(data: mmap.mmap, at: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, start and end of each field."""
    while at < stop:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _LENGTH:
            size, at = _varint(data, at)
            if at + size > stop:
                raise ValueError("a field ends outside its message")
            yield number, wire, at, at + size
            at += size
        elif wire == _VARINT:
            start = at
            _, at = _varint(data, at)
            yield number, wire, start, at
        elif wire in _STEP:
            at += _STEP[wire]
        else:
            raise ValueError(f"wire type {wire} does not occur in ONNX")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """The number at a position, and the position after it: seven bits a byte, low ones first."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a varint is longer than ten bytes")
