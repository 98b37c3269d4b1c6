"""Temporary folders that are removed even when the process that made them was killed.

A folder is locked while its process lives; the system releases the lock however the process ends. The next call of
folder() with the same prefix in the same place removes the folders that nobody has locked. Where the system or the file
system has no such locks (Windows, some network shares), only the process that made a folder removes it.

A process that ends by an exception, at whatever moment, removes its folders itself: at the end of the block, or, where
a second exception prevents that, at the exit of Python. One that ends by os._exit() calls remove_all() before.
"""

from __future__ import annotations

import atexit
import errno
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgefc.errors import UsageError, at_limit, reason_of

_NEW = "new-"  # a folder that its process has not locked yet
_NEW_FOR_S = 60.0  # no process takes so long from making a folder to locking it

_PIECE = 1 << 20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_own: set[Path] = set()  # the folders of this process; each is here before it is made, and until it is removed


@contextmanager
def folder(prefix: str, place: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """A new folder, which only this user can enter; removed with all that is in it at the end of the block.

    Args:
        prefix: how its name starts. Folders of killed processes are found by it.
        place: the folder to make it in; the system's folder for temporary files when left out.

    Raises:
        UsageError: there is no folder for temporary files that can be written, or it had no room for what the block
            wrote.
        OSError: `place` was given, and the folder cannot be made there.
    """
    where = Path(place) if place is not None else system_place()
    _sweep(where, prefix)
    name, lock = secrets.token_hex(8), None
    new, made = where / f"{prefix}{_NEW}{name}", where / f"{prefix}{name}"
    _own.update((new, made))
    try:
        try:
            new.mkdir(mode=0o700)
            lock = _locked(new)
            new.rename(made)  # only now: no other process removes a folder that is locked
        except OSError as error:
            if place is None and not at_limit(error):
                raise _no_place(error) from None
            raise
        try:
            yield made
        except OSError as error:
            if place is None and _is_full(error):
                raise _no_room(where, error) from None
            raise
    finally:
        for path in (new, made):
            shutil.rmtree(path, ignore_errors=True)
            _own.discard(path)
        if lock is not None:
            os.close(lock)


def check_room(path: Path, size: int) -> None:
    """Try to write so many bytes into a folder that folder() made, where a library failed and may not say why.

    Raises:
        UsageError: they cannot be written.
    """
    file = path / "room"
    try:
        with file.open("wb", buffering=0) as out:
            while size > 0:
                size -= out.write(bytes(min(size, _PIECE)))
    except OSError as error:
        raise _no_room(path.parent, error) from None
    finally:
        file.unlink(missing_ok=True)


def remove_all() -> None:
    """Remove every folder of this process, when no block will end any more."""
    for path in list(_own):
        shutil.rmtree(path, ignore_errors=True)


atexit.register(remove_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_own.clear)


def system_place() -> Path:
    """The system's folder for temporary files.

    Raises:
        UsageError: no folder for temporary files can be written.
    """
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise _no_place(error) from None


def _is_full(error: OSError) -> bool:
    """numpy gives no number of an error, and says "1024 requested and 0 written"."""
    return error.errno in NO_ROOM or (
        error.errno is None and re.search(r"requested and \d+ written", str(error)) is not None
    )


def _no_room(where: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write temporary files to {where}: {reason_of(error)}. "
        "Make room there, or set TMPDIR to a folder on another disk."
    )


def _no_place(error: OSError) -> UsageError:
    return UsageError(
        f"cannot make a temporary folder: {reason_of(error)}. Set TMPDIR to a folder that can be written."
    )


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
    """A descriptor that holds the lock of a folder until it is closed.

    None if another process holds the lock, or the system has no such locks.
    """
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        if at_limit(error) and error.errno != errno.EAGAIN:  # which flock() gives for a lock that another has
            raise
        return None
    return descriptor
