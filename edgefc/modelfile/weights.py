"""The tensors of an .onnx file whose data lie in other files.

They are initializers and values of attributes, dense or sparse, in the graph, in functions and in the graphs that nodes
hold, at any depth. Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from edgefc.errors import ModelError
from edgefc.modelfile.places import BITS, Folder, Place
from edgefc.modelfile.protobuf import DEEPEST, Malformed, Message, Source, fields, inside, opened, strings, varints

# What lies in which field of which message. Fields that hold one message are apart: all their occurrences are one.
_ONE: dict[str, dict[int, str]] = {
    "model": {7: "graph"},
    "attribute": {5: "tensor", 6: "graph", 22: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_MANY: dict[str, dict[int, str]] = {
    "model": {25: "function"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {10: "tensor", 11: "graph", 23: "sparse"},
}
_DIMS, _TYPE, _NAME, _DATA, _LOCATION = 1, 2, 8, 13, 14  # of a TensorProto
_EXTERNAL = 1  # TensorProto.DataLocation
_SMALL = 1 << 14  # bytes of a message that is searched for a key rather than read


def weights(path: Path) -> list[Place]:
    """Of each location that a model names, in the order of the file, the first tensor there.

    Raises:
        ModelError: onnxruntime would not read one of them, or the file is no ONNX file.
    """
    if is_ort_format(path):
        return []
    with opened(path) as source:
        try:
            found = list(places(source, path))
        except Malformed:
            raise no_onnx(path) from None
    return list({each.location: each for each in reversed(found)}.values())[::-1]


def weight_files(path: Path) -> list[Path]:
    """The files of weights(), each once, however many names the model has for it. Raises as weights() does."""
    return list({os.path.realpath(each.file): each.file for each in weights(path)}.values())


def places(source: Source, path: Path) -> Iterator[Place]:
    """Where every tensor lies that is in another file.

    Raises:
        Malformed: the file is no protobuf message.
        ModelError: onnxruntime would not read a tensor.
    """
    folder = Folder(path)
    for tensor in _external(source, "model", source.whole, 0):
        dims, dtype = list(varints(source, tensor, _DIMS)), list(varints(source, tensor, _TYPE))
        name = strings(source, tensor, _NAME).get(_NAME, b"").decode(errors="replace")
        entries = [strings(source, entry, 1, 2) for entry in inside(source, tensor, _DATA)]
        bits = BITS.get(dtype[-1] & 0xFFFFFFFF) if dtype else None
        size = None if bits is None or len(dims) > 255 else -(-math.prod(dims) * bits // 8)
        try:
            yield folder.place(name, ((each.get(1, b""), each.get(2, b"")) for each in entries), size)
        except ValueError as error:
            raise ModelError(f"cannot load {path}: {error}.") from None


def is_ort_format(path: Path) -> bool:
    """Whether onnxruntime reads a file in its own format, which has no functions and no external data."""
    return path.name.lower().endswith(".ort")


def no_onnx(path: Path) -> ModelError:
    return ModelError(f"cannot load {path}: it is no ONNX file, or was cut short. Export it or copy it again.")


def _external(source: Source, kind: str, message: Message, depth: int) -> Iterator[Message]:
    if depth > DEEPEST:
        raise Malformed(f"messages are nested more than {DEEPEST} deep")
    if kind == "tensor":
        if _is_external(source, message):
            yield message
        return
    one, many = _ONE.get(kind, {}), _MANY.get(kind, {})
    parts: dict[int, Message] = {}
    for number, start, end, value in fields(source, message):
        if value >= 0:
            continue
        if number in one:
            parts[number] = (*parts.get(number, ()), (start, end))
        elif number in many and (end - start > _SMALL or b"location" in source.read(start, end)):
            yield from _external(source, many[number], ((start, end),), depth + 1)
    for number, part in parts.items():
        yield from _external(source, one[number], part, depth + 1)


def _is_external(source: Source, tensor: Message) -> bool:
    """By the last value of data_location that has a meaning, as protobuf reads it."""
    told = [each.value & 0xFFFFFFFF for each in fields(source, tensor) if each.number == _LOCATION and each.value >= 0]
    return next((value == _EXTERNAL for value in reversed(told) if value in (0, _EXTERNAL)), False)
