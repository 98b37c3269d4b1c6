"""Temporary folders that are removed even if the process that made them is killed.

A process locks its folder while it runs, and the system releases the lock when the process ends for any reason. The
next call of folder() with the same prefix in the same parent folder removes the folders that are not locked. If the
system or the file system has no such locks (Windows, some network shares), only the process that made a folder removes
it.

A process that ends with an exception removes its folders at the end of the block. If a second exception prevents that,
they are removed when Python exits. Code that calls os._exit() calls remove_all() first.
"""

from __future__ import annotations

import atexit
import errno
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgefc.errors import UsageError, at_limit, reason_of

_NEW = "new-"  # marks a folder that its process has not locked yet; the host and the process id follow
_NEW_FOR_S = 60.0  # no process takes this long from making a folder to locking it
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"

_PIECE = 1 << 20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_own: set[Path] = set()  # the folders of this process; a path is added before mkdir and removed after rmtree


@contextmanager
def folder(prefix: str, place: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Make a folder that only this user can access. It is removed with its contents at the end of the block.

    Args:
        prefix: start of the folder's name. It also identifies the folders of killed processes.
        place: the parent folder. Default: the system's folder for temporary files.

    Raises:
        UsageError: no folder for temporary files can be written, or its disk was full while the block wrote.
        OSError: `place` is given and the folder cannot be made in it.
    """
    where = Path(place) if place is not None else system_place()
    _sweep(where, prefix)
    name, lock = secrets.token_hex(8), None
    new, made = where / f"{prefix}{_NEW}{_HOST}-{os.getpid()}-{name}", where / f"{prefix}{name}"
    _own.update((new, made))
    try:
        try:
            new.mkdir(mode=0o700)
            lock = _locked(new)
            new.rename(made)  # after locking, so that no other process removes the folder
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
    """Check that `size` bytes can be written to a folder of folder(). Use it after a library failed without a reason.

    Raises:
        UsageError: the bytes cannot be written.
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
    """Remove every folder of this process. Call it if the blocks of folder() will not end."""
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
    """Whether a disk is full. numpy raises an OSError without errno and with "1024 requested and 0 written"."""
    return error.errno in NO_ROOM or (
        error.errno is None and re.search(r"requested and \d+ written", str(error)) is not None
    )


def _no_room(where: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write temporary files to {where}: {reason_of(error)}. "
        "Free some space there, or set TMPDIR to a folder on another disk."
    )


def _no_place(error: OSError) -> UsageError:
    return UsageError(
        f"cannot make a temporary folder: {reason_of(error)}. Set TMPDIR to a folder that can be written."
    )


def _sweep(where: Path, prefix: str) -> None:
    """Remove the folders of this user whose process has ended. Errors are ignored."""
    with suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            if entry.name.startswith(prefix):
                with suppress(OSError):
                    _remove_if_left(Path(entry.path), entry.name.removeprefix(prefix))


def _remove_if_left(path: Path, mark: str) -> None:
    """`mark` is the folder's name without the prefix."""
    status = path.lstat()
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return
    if mark.startswith(_NEW) and abs(time.time() - status.st_mtime) < _NEW_FOR_S and not _has_ended(mark):
        return
    lock = _locked(path)
    if lock is not None:
        try:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)


def _has_ended(mark: str) -> bool:
    """Whether the process that made a new folder is known to have ended. False for processes of other machines."""
    host, _, rest = mark.removeprefix(_NEW).partition("-")
    number = rest.partition("-")[0]
    if os.name == "nt" or host != _HOST or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)  # sends no signal
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


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
        if at_limit(error) and error.errno != errno.EAGAIN:  # flock() gives EAGAIN if another process has the lock
            raise
        return None
    return descriptor
