"""A lock that processes and threads take in turn; the system releases it however its process ends."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone(path: Path, limit_s: float = 60.0) -> Iterator[None]:
    """Within the block nobody else is in a block with the same path: no other process, and no other thread.

    The lock is an empty folder, which is removed afterwards. One that a killed process left is taken over, and
    temporary.folder() removes it where it has the prefix. Where the system has no such locks, there is no protection.

    Raises:
        TimeoutError: somebody else was in such a block all the time.
        OSError: the folder cannot be made.
    """
    end = time.monotonic() + limit_s
    lock: int | None = None
    while lock is None:
        with suppress(FileExistsError):  # exist_ok would look again whether it is there, and it may be gone by then
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
