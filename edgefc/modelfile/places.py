"""The allowed locations of the external data of an .onnx file. The rules are those of onnxruntime 1.31.

A location is relative to the folder of the model. Symbolic links are followed. The file must be a regular file below
that folder. If the model is a link, the file may also be below the folder of the link's target. For example, a snapshot
in the cache of the Hugging Face hub is a folder of links to files in another folder.

Behaviour of onnxruntime 1.31.1: a second `location` is an error, the last `offset` or `length` is used, and a length of
0 means that no length is given. It reads a location up to a NUL; here, a NUL is an error.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from edgefc.errors import reason_of

_LONGEST = 80  # characters of a name in a message
_AGAIN = "Export it again"

BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
"""Bits per element, by TensorProto.DataType. Strings have no fixed size."""


@dataclass(frozen=True)
class Place:
    """The data of one tensor: `length` bytes at `offset` in `file`. `location` is the name of the file in the model."""

    location: str
    file: Path
    offset: int
    length: int | None


class Folder:
    """The external data files of one model. Each file is inspected once."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._sizes: dict[str, int] = {}

    def place(self, name: str, entries: Iterable[tuple[bytes, bytes]], size: int | None) -> Place:
        """Where onnxruntime reads the data of tensor `name`.

        Args:
            entries: keys and values of the tensor's external_data, in order.
            size: the size of the tensor in bytes. None if its type has no fixed size.

        Raises:
            ValueError: onnxruntime would not read the data. The text gives the reason and a fix, without a full stop.
        """
        pairs = list(entries)
        values = dict(pairs)
        if sum(key == b"location" for key, _ in pairs) > 1:
            raise ValueError(f"tensor {_shown(name)} names two files for its weights. {_AGAIN}")
        location = _location(values.get(b"location", b""), name)
        offset, length = (_whole(values.get(key, b"0"), name) for key in (b"offset", b"length"))
        if location not in self._sizes:
            self._sizes[location] = _size(self._model, location)
        if size is not None and length and length != size:
            raise ValueError(f"tensor {_shown(name)} has {length} bytes in its weights file and needs {size}. {_AGAIN}")
        if offset + (size or length) > self._sizes[location]:
            raise ValueError(
                f"the data of tensor {_shown(name)} extend beyond the end of its weights file {_shown(location)}. "
                "Copy both files again"
            )
        return Place(location, self._model.parent / location, offset, size if size is not None else length or None)


def is_inside(model: Path, location: str) -> bool:
    """Whether onnxruntime accepts `location` for external data of `model`. The file need not exist."""
    if not location or "\0" in location or PurePath(location).is_absolute():
        return False
    target = Path(os.path.realpath(model.parent / location))
    roots = (Path(os.path.realpath(model.parent)), Path(os.path.realpath(model)).parent)
    return any(target.is_relative_to(root) for root in roots)


def _location(given: bytes, name: str) -> str:
    if not given:
        raise ValueError(f"tensor {_shown(name)} names no file for its weights. {_AGAIN}")
    location = given.decode(errors="replace")
    if location.encode() != given:
        raise ValueError(f"the name of its weights file, {_shown(location)}, is not UTF-8. Save it with another name")
    if "\0" in location:
        raise ValueError(f"the name of its weights file, {_shown(location)}, contains a NUL. Save it with another name")
    return location


def _size(model: Path, location: str) -> int:
    """The size in bytes of a file that may hold external data."""
    shown = _shown(location)
    if not is_inside(model, location):
        raise ValueError(f"its weights file {shown} is outside the model's folder. Save it in the model's folder")
    try:
        status = os.stat(os.path.join(model.parent, location))  # a Path would drop a trailing slash
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"its weights file {shown} does not exist. Copy it to the model's folder") from None
    except OSError as error:
        why = reason_of(error)
        raise ValueError(f"its weights file {shown} cannot be used: {why}. Save it with another name") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"its weights file {shown} is not a regular file. Save the weights in a regular file")
    return status.st_size


def _whole(text: bytes, name: str) -> int:
    """Parse an offset or length as onnxruntime does: only digits, below 2^63."""
    if not (text.isdigit() and len(text) < 64 and int(text) < 1 << 63):
        shown = _shown(text.decode(errors="replace"))
        raise ValueError(f"tensor {_shown(name)} has the invalid offset or length {shown}. {_AGAIN}")
    return int(text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")
