"""Where the external data of an .onnx file may lie: the rule of onnxruntime 1.31.

A location is relative to the folder of the model. Symbolic links are followed. The file must be a regular one, and lie
below that folder, or below the folder of the file that the model's own link points to: a snapshot in the cache of the
Hugging Face hub is a folder of links to files that lie together in another one.

Seen of onnxruntime 1.31.1: a second `location` is refused, of a second `offset` or `length` the last counts, and a
length of 0 stands for none. It reads a location up to a NUL, which is refused here.
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
"""Of one number, by TensorProto.DataType. Strings have no size of their own."""


@dataclass(frozen=True)
class Place:
    """The bytes of one tensor: `length` of them from `offset` in `file`, which the model calls `location`."""

    location: str
    file: Path
    offset: int
    length: int | None


class Folder:
    """The files that may hold weights of one model. Each is looked at once."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._sizes: dict[str, int] = {}

    def place(self, name: str, entries: Iterable[tuple[bytes, bytes]], size: int | None) -> Place:
        """Where onnxruntime reads the data of tensor `name`.

        Args:
            entries: keys and values of its external_data, in order.
            size: how many bytes the tensor has; None where its type has no size.

        Raises:
            ValueError: onnxruntime would not read it. The text says why, and what would work, without a full stop.
        """
        pairs = list(entries)
        told = dict(pairs)
        if sum(key == b"location" for key, _ in pairs) > 1:
            raise ValueError(f"tensor {_shown(name)} names two files for its weights. {_AGAIN}")
        location = _location(told.get(b"location", b""), name)
        offset, length = (_whole(told.get(key, b"0"), name) for key in (b"offset", b"length"))
        if location not in self._sizes:
            self._sizes[location] = _size(self._model, location)
        if size is not None and length and length != size:
            raise ValueError(f"tensor {_shown(name)} has {length} bytes in its weights file and needs {size}. {_AGAIN}")
        if offset + (size or length) > self._sizes[location]:
            raise ValueError(
                f"tensor {_shown(name)} ends behind the end of its weights file {_shown(location)}. "
                "Copy both files again"
            )
        return Place(location, self._model.parent / location, offset, size if size is not None else length or None)


def is_inside(model: Path, location: str) -> bool:
    """Whether onnxruntime accepts `location` for weights of `model`. The file need not exist."""
    if not location or "\0" in location or PurePath(location).is_absolute():
        return False
    found = Path(os.path.realpath(model.parent / location))
    roots = (Path(os.path.realpath(model.parent)), Path(os.path.realpath(model)).parent)
    return any(found.is_relative_to(root) for root in roots)


def _location(given: bytes, name: str) -> str:
    if not given:
        raise ValueError(f"tensor {_shown(name)} names no file for its weights. {_AGAIN}")
    location = given.decode(errors="replace")
    if location.encode() != given:
        raise ValueError(f"the name of its weights file, {_shown(location)}, is not UTF-8. Save it with another name")
    if "\0" in location:
        raise ValueError(f"the name of its weights file, {_shown(location)}, holds a NUL. Save it with another name")
    return location


def _size(model: Path, location: str) -> int:
    """Of a file that may hold weights."""
    shown = _shown(location)
    if not is_inside(model, location):
        raise ValueError(f"its weights {shown} lie outside its folder. Save it with them beside it")
    try:
        found = os.stat(os.path.join(model.parent, location))  # not by a Path, which drops a final slash
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"its weights file {shown} is not there. Put it beside the model") from None
    except OSError as error:
        why = reason_of(error)
        raise ValueError(f"its weights file {shown} cannot be used: {why}. Save it with another name") from None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"its weights {shown} are not a regular file. Save it with a file beside it")
    return found.st_size


def _whole(text: bytes, name: str) -> int:
    """onnxruntime takes digits alone, below 2^63."""
    if not (text.isdigit() and len(text) < 64 and int(text) < 1 << 63):
        shown = _shown(text.decode(errors="replace"))
        raise ValueError(f"tensor {_shown(name)} has {shown} for an offset or a length. {_AGAIN}")
    return int(text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")
