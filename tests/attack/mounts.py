"""Small, full and read-only disks, in a mount namespace that ends with this process; root only."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_NEWNS, _REC, _PRIVATE, _BIND, _REMOUNT, _RDONLY = 0x20000, 0x4000, 0x40000, 0x1000, 0x20, 0x1  # linux/sched.h, mount.h
FILLER = "filler"


def alone() -> bool:
    """Give this process its own mount namespace. Returns False if that is not permitted."""
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.unshare(_NEWNS) == 0 and libc.mount(b"none", b"/", None, _REC | _PRIVATE, None) == 0)


def disk(place: Path, options: str = "size=64k") -> None:
    """Mount an empty file system at a new folder, with a limit of bytes ("size=64k") or of files ("nr_inodes=3")."""
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o777)
    _mount("tmpfs", place, "tmpfs", 0, options + ",mode=777")


def fill(place: Path) -> None:
    """Fill a file system completely."""
    with suppress(OSError), (place / FILLER).open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def read_only(place: Path) -> None:
    """Make a folder or file read-only, with its contents: it cannot be written or replaced."""
    bind(place, place)
    _mount("none", place, None, _REMOUNT | _BIND | _RDONLY, None)


def bind(source: Path, target: Path) -> None:
    """Mount the file or folder `source` at `target` too. The target can be written, but not replaced or removed."""
    _mount(str(source), target, None, _BIND | _REC, None)


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str | None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    given = (source.encode(), os.fsencode(target), kind and kind.encode(), flags, options and options.encode())
    if libc.mount(*given) != 0:
        raise OSError(ctypes.get_errno(), f"mount {target}: {os.strerror(ctypes.get_errno())}")
