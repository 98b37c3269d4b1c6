"""Temporary folders that are removed even when the process that made them was killed.

A folder is locked while its process lives; the system releases the lock however the process ends. The next call of
folder() with the same prefix in the same place removes the folders that nobody has locked. Where the system or the file
system has no such locks (Windows, some network shares), only the process that made a folder removes it.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgefc.errors import UsageError

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
        try:
            shutil.rmtree(made, ignore_errors=True)
        finally:  # also when a signal interrupts this: the next call removes the rest
            if lock is not None:
                os.close(lock)


@contextmanager
def alone(path: Path, limit_s: float = 60.0) -> Iterator[None]:
    """Within the block nobody else is in a block with the same path: no other process, and no other thread.

    The lock is an empty folder, which is removed afterwards. One that a killed process left is taken over, and folder()
    removes it where `path` begins with its prefix. Where the system has no such locks, there is no protection.

    Raises:
        TimeoutError: somebody else was in such a block all the time.
        OSError: the folder cannot be made.
    """
    end = time.monotonic() + limit_s
    lock: int | None = None
    while lock is None:
        path.mkdir(mode=0o755, exist_ok=True)
        lock = _lock_of(path)
        if lock is None and time.monotonic() > end:
            raise TimeoutError(errno.ETIMEDOUT, f"another process has been writing there for {limit_s:g} s")
        if lock is None:
            time.sleep(0.02)
    try:
        yield
    finally:
        try:
            with suppress(OSError):
                path.rmdir()
        finally:  # also when a signal interrupts this: the lock would be held as long as the process lives
            if lock >= 0:
                os.close(lock)


def _lock_of(path: Path) -> int | None:
    """A descriptor that holds the lock; None when somebody else has it; -1 where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # who had it has removed it
        return None
    except OSError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):  # or it was removed before it was locked
        pass
    except OSError:
        os.close(descriptor)
        return -1
    os.close(descriptor)
    return None


def _system_place() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise UsageError(
            f"cannot make a temporary folder: {error.strerror or error}. Set TMPDIR to a folder that can be written."
        ) from None


def _made(where: Path, prefix: str) -> tuple[Path, int | None]:
    """The folder, and what holds its lock. It has its name only when it is locked, so no other process removes it."""
    new = Path(tempfile.mkdtemp(prefix=prefix + _NEW, dir=where))
    try:
        new.chmod(0o700)  # whatever the umask is
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
