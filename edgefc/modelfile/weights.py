"""The tensors of an .onnx file whose data are in other files (external data).

They are initializers and attribute values, dense or sparse, in the graph, in functions and in subgraphs at any depth.
Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgefc.errors import ModelError
from edgefc.modelfile.places import BITS, Folder, Place
from edgefc.modelfile.protobuf import DEEPEST, Field, Malformed, Message, Source, fields, opened, packed, strings

# The message type of each field. Singular fields are listed separately, because their occurrences are concatenated.
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
_EXTERNAL = 1  # TensorProto.DataLocation
_LONGEST_SHAPE = 255  # axes; for more, onnxruntime itself checks the size of the tensor
_SMALL = 1 << 14  # messages of up to this many bytes are searched for "location" before they are parsed


def weights(path: Path) -> list[Place]:
    """The first tensor at each external location, in the order of the file.

    Raises:
        ModelError: onnxruntime would not read one of the tensors, or the file is not an ONNX file.
    """
    if is_ort_format(path):
        return []
    with opened(path) as source:
        try:
            tensors = list(places(source, path))
        except Malformed:
            raise no_onnx(path) from None
    return list({each.location: each for each in reversed(tensors)}.values())[::-1]


def weight_files(path: Path) -> list[Path]:
    """The files of weights(). A file with several names in the model is listed once.

    Raises:
        ModelError: as weights().
    """
    return list({os.path.realpath(each.file): each.file for each in weights(path)}.values())


def places(source: Source, path: Path) -> Iterator[Place]:
    """The location of every tensor with external data.

    Raises:
        Malformed: the file is not a protobuf message.
        ModelError: onnxruntime would not read a tensor.
    """
    folder = Folder(path)
    for message in _tensors(source, "model", source.whole, 0):
        tensor = _read(source, message)
        if tensor.is_external:
            try:
                yield folder.place(tensor.name.decode(errors="replace"), tensor.entries, tensor.size)
            except ValueError as error:
                raise ModelError(f"cannot load {path}: {error}.") from None


def locations(path: Path) -> frozenset[str]:
    """The names of the external data files in a model. The files need not exist.

    Raises:
        OSError: the model cannot be read.
        Malformed: the model is not a protobuf message.
    """
    with opened(path) as source:
        return frozenset(
            os.fsdecode(value)
            for tensor in _tensors(source, "model", source.whole, 0)
            for key, value in _read(source, tensor).entries
            if key == b"location"
        )


def is_ort_format(path: Path) -> bool:
    """Whether a file is in onnxruntime's own format, which has no functions and no external data."""
    return path.name.lower().endswith(".ort")


def no_onnx(path: Path) -> ModelError:
    return ModelError(f"cannot load {path}: it is not an ONNX file, or it is truncated. Export it or copy it again.")


@dataclass
class _Tensor:
    """The fields of a TensorProto that describe its data. As in protobuf, the last value of a field is used."""

    name: bytes = b""
    dtype: int = 0
    dims: list[int] = field(default_factory=list)
    is_external: bool = False
    entries: list[tuple[bytes, bytes]] = field(default_factory=list)

    def take(self, source: Source, each: Field) -> None:
        number, start, end, value = each
        if number == 1:
            self.dims += [value] if value >= 0 else packed(source.read(start, end))
        elif number == 2 and value >= 0:
            self.dtype = value & 0xFFFFFFFF
        elif number == 8 and value < 0:
            self.name = source.read(start, end)
        elif number == 13 and value < 0:
            entry = strings(source, ((start, end),), 1, 2)
            self.entries.append((entry.get(1, b""), entry.get(2, b"")))
        elif number == 14 and value & 0xFFFFFFFF in (0, _EXTERNAL):  # protobuf ignores other values
            self.is_external = value & 0xFFFFFFFF == _EXTERNAL

    @property
    def size(self) -> int | None:
        """The size in bytes. None if the type has no fixed size."""
        bits = BITS.get(self.dtype)
        return None if bits is None or len(self.dims) > _LONGEST_SHAPE else -(-math.prod(self.dims) * bits // 8)


def _read(source: Source, message: Message) -> _Tensor:
    tensor = _Tensor()
    for each in fields(source, message):
        tensor.take(source, each)
    return tensor


def _tensors(source: Source, kind: str, message: Message, depth: int) -> Iterator[Message]:
    """The tensors that may have external data."""
    if depth > DEEPEST:
        raise Malformed(f"messages are nested more than {DEEPEST} deep")
    if kind == "tensor":
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
            yield from _tensors(source, many[number], ((start, end),), depth + 1)
    for number, part in parts.items():
        yield from _tensors(source, one[number], part, depth + 1)
