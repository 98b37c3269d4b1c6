"""Temporary folders that are removed even when the process that made them was killed.

A folder is locked while its process lives; the system releases the lock however the process ends. The next call of
folder() with the same prefix in the same place removes the folders that nobody has locked. Where the system or the file
system has no such locks (Windows, some network shares), only the process that made a folder removes it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgefc.errors import UsageError, reason_of

_NEW = "new-"  # a folder that its process has not locked yet
_NEW_FOR_S = 60.0  # no process takes so long from making a folder to locking it


@contextmanager
def folder(prefix: str, place: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """A new folder, which only this user can enter; removed with all that is in it at the end of the block.

    Args:
        prefix: how its name starts. Folders of killed processes are found by it.
        place: the folder to make it in; the system's folder for temporary files when left out.

    Raises:
        UsageError: there is no folder for temporary files that can be written.
        OSError: `place` was given, and the folder cannot be made there.
    """
    where = Path(place) if place is not None else _system_place()
    _sweep(where, prefix)
    made, lock = _made(where, prefix)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _system_place() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise UsageError(
            f"cannot make a temporary folder: {reason_of(error)}. Set TMPDIR to a folder that can be written."
        ) from None


def _made(where: Path, prefix: str) -> tuple[Path, int | None]:
    """The folder, and what holds its lock. It has its name only when it is locked, so no other process removes it."""
    new = Path(tempfile.mkdtemp(prefix=prefix + _NEW, dir=where))
    try:
        lock = _locked(new)
        named = new.with_name(prefix + new.name.removeprefix(prefix + _NEW))
        new.rename(named)
    except BaseException:
        new.rmdir()
        raise
    return named, lock


def _sweep(where: Path, prefix: str) -> None:
    """Remove the folders of this user whose process has ended. What cannot be removed stays."""
    with suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            if entry.name.startswith(prefix):
                with suppress(OSError):
                    _remove_if_left(Path(entry.path), entry.name.startswith(prefix + _NEW))


def _remove_if_left(path: Path, new: bool) -> None:
    status = path.lstat()
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return
    if new and abs(time.time() - status.st_mtime) < _NEW_FOR_S:
        return
    lock = _locked(path)
    if lock is not None:
        try:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock of a folder until it is closed; None when another has it or there are none."""
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if descriptor >= 0:
            os.close(descriptor)
        return None
    return descriptor
