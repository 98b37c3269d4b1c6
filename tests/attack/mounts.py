"""Small, full and read-only disks, in a mount namespace that ends with this process; root only."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_NEWNS, _REC, _PRIVATE, _BIND, _REMOUNT, _RDONLY = 0x20000, 0x4000, 0x40000, 0x1000, 0x20, 0x1  # linux/sched.h, mount.h
FILLER = "filler"


def alone() -> bool:
    """Give this process mounts of its own; False where it may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.unshare(_NEWNS) == 0 and libc.mount(b"none", b"/", None, _REC | _PRIVATE, None) == 0)


def disk(place: Path, options: str = "size=64k") -> None:
    """An empty file system at a new folder: of so many bytes ("size=64k"), or files ("nr_inodes=3")."""
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o777)
    _mount("tmpfs", place, "tmpfs", 0, options + ",mode=777")


def fill(place: Path) -> None:
    """Leave no byte free."""
    with suppress(OSError), (place / FILLER).open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def read_only(place: Path) -> None:
    """A folder or a file with what is in it: it can be read, and not be written or replaced."""
    bind(place, place)
    _mount("none", place, None, _REMOUNT | _BIND | _RDONLY, None)


def bind(source: Path, target: Path) -> None:
    """The file or folder `source` at `target` too, which can be written, and not be replaced or removed."""
    _mount(str(source), target, None, _BIND | _REC, None)


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str | None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    given = (source.encode(), os.fsencode(target), kind and kind.encode(), flags, options and options.encode())
    if libc.mount(*given) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}: {os.strerror(ctypes.get_errno())}")
