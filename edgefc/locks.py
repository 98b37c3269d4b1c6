"""A lock between processes and between threads. The system releases it when its process ends for any reason."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone(path: Path, limit_s: float = 60.0) -> Iterator[None]:
    """Hold an exclusive lock on `path`: no other process and no other thread is in a block with the same path.

    The lock is an empty folder, which is removed afterwards. A folder that a killed process left is reused, and
    temporary.folder() removes it if its name has the prefix. On systems without flock(), the block is not protected.

    Args:
        limit_s: how long to wait for the lock, s.

    Raises:
        TimeoutError: the lock was not available within `limit_s`.
        OSError: the folder cannot be created.
    """
    end = time.monotonic() + limit_s
    lock: int | None = None
    while lock is None:
        with suppress(FileExistsError):  # exist_ok=True would fail if the folder is removed in between
            path.mkdir(mode=0o755)
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
        finally:  # also if a signal interrupts rmdir(): otherwise the process would keep the lock
            if lock >= 0:
                os.close(lock)


def _lock_of(path: Path) -> int | None:
    """A descriptor that holds the lock. None if another holder has it; -1 if the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # the previous holder has removed it
        return None
    except OSError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):  # held by another, or removed before it was locked
        pass
    except OSError:
        os.close(descriptor)
        return -1
    os.close(descriptor)
    return None
