"""Which files beside an .onnx file hold its weights, read from the file itself without the onnx package.

The path through the serialised model, with field numbers of onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto):

    ModelProto.graph 7 > GraphProto.initializer 5 > TensorProto.external_data 13 > key 1, value 2

A field is a varint key (number * 8 + wire type) and a value; weights inside the file are stepped over, not read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePath

from edgefc.errors import ModelError

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # wire types
_STEP = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}


def weight_files(path: Path) -> list[Path]:
    """Those that exist, each once, in the order of first use; none for a file that is no protobuf (.ort, say).

    Raises:
        ModelError: one is not below the model's folder. Who wrote the file chose the name, and it may be read and sent.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            names = list(dict.fromkeys(_locations(data)))
        except (IndexError, ValueError):
            return []
    for name in names:
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            raise ModelError(
                f"cannot load {path}: its weights {name!r} lie outside its folder. Save it with them beside it."
            )
    return [path.parent / name for name in names if (path.parent / name).is_file()]


def nodes_of(path: Path, domain: str) -> list[tuple[str, str]]:
    """Operator and name of the graph's nodes in a domain, in the file's order; none for a file that is no protobuf.

    ModelProto.graph 7 > GraphProto.node 1 > NodeProto: name 3, op_type 4, domain 7
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            nodes = [_texts(data, node) for node in _inside(data, (0, len(data)), 7, 1)]
        except (IndexError, ValueError):
            return []
    return [(node.get(4, ""), node.get(3, "")) for node in nodes if node.get(7) == domain]


def _texts(data: mmap.mmap, span: tuple[int, int]) -> dict[int, str]:
    """The short strings among a node's fields, by number."""
    return {number: data[start:end].decode() for number, start, end in _fields(data, *span) if number in (3, 4, 7)}


def _locations(data: mmap.mmap) -> Iterator[str]:
    for entry in _inside(data, (0, len(data)), 7, 5, 13):
        texts = {number: data[start:end] for number, start, end in _fields(data, *entry)}
        if texts.get(1) == b"location" and 2 in texts:
            yield texts[2].decode()


def _inside(data: mmap.mmap, span: tuple[int, int], *numbers: int) -> Iterator[tuple[int, int]]:
    """The spans of all fields at the end of a path of field numbers."""
    for number, start, end in _fields(data, *span):
        if number == numbers[0]:
            yield from _inside(data, (start, end), *numbers[1:]) if numbers[1:] else [(start, end)]


def _fields(data: mmap.mmap, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field with a length."""
    while at < stop:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _LENGTH:
            size, at = _varint(data, at)
            if at + size > stop:
                raise ValueError("a field ends outside its message")
            yield number, at, at + size
            at += size
        elif wire == _VARINT:
            _, at = _varint(data, at)
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
