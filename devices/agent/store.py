"""The agent's folder on a board, ~/.cache/edgefc. Standard library only, Python 3.9.

    agent/   the agent itself, by its hash
    files/   received files, by sha256; NAME.part is an incomplete file, which a later transfer continues
    lib/     installed by `devices provision`: site/ with Python packages, and the native library
    runs/    one folder for each run, removed at its end. NAME.lock is locked during the run and identifies its
             process, so that the next run can remove the folder of a killed run, and end a stopped one

A received hash or name is checked before it is part of a path: hashes are hexadecimal, names stay inside their folder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any

from edgefc.devices.agent import holder
from edgefc.errors import DeviceError, reason_of

_HASH = re.compile(r"[0-9a-f]{64}\Z")
_RUN = re.compile(r"[0-9]{1,10}-[0-9a-f]{12}\Z")
_BLOCK = 1 << 20
_TRIES, _PAUSE_S = 40, 0.05
_SPARE = 8 << 20  # bytes of disk space that stay free
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ABANDONED_S = 600.0  # an older unfinished file of the boot program is removed


class Store:
    """The folder, and the folder of one run in it.

    Raises:
        DeviceError: the disk is full, or the folder cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.files, self.runs = root, root / "files", root / "runs"
        with write_errors(root):
            for folder in (self.files, self.runs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.swept = self.sweep()
            self.run, self._lock = self._new_run()
            self._lock_path = self.run.with_suffix(".lock")
        self._busy: IO[str] | None = None

    def close(self) -> None:
        _remove(self.run)
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()

    def sweep(self) -> int:
        """Remove the folders of runs that were killed or are stopped. Return the number of these runs."""
        for part in (self.root / "agent").glob("*.pyz.*"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _ABANDONED_S:
                    part.unlink()
        return sum(self._swept(path) for path in self.runs.glob("*.lock"))

    def end(self, run: str) -> None:
        """End the agent of a run whose connection was lost, and remove its folder."""
        if not _RUN.match(run):
            raise DeviceError(f"{run[:80]!r} is not the name of a run. Use the same edgefc on both sides.")
        path = self.runs / f"{run}.lock"
        if path.exists() and path != self._lock_path:
            self._swept(path, kill=True)

    def _swept(self, path: Path, *, kill: bool = False) -> bool:
        lock = _locked(path)
        if lock is None:
            line = path.read_text(errors="replace") if path.exists() else ""
            if not kill and not holder.stopped(line):
                return False
            holder.end(line)
            lock = _locked(path, _TRIES)
        if lock is None:
            return False
        _remove(path.with_suffix(""))
        path.unlink()
        lock.close()
        return True

    def claim(self) -> None:
        """Reserve the board for this process until it ends.

        Raises:
            DeviceError: another agent has reserved it.
        """
        self._busy = self._busy or _locked(self.root / "busy.lock")
        if self._busy is None:
            raise DeviceError("another edgefc is measuring on this device. Wait until it has ended.")

    def have(self, sha256: str, size: int) -> int:
        """The number of bytes of that file on the board. It is `size` only if this call has verified the hash."""
        whole, part = self._named(sha256)
        if whole.is_file():
            if whole.stat().st_size == size and _sha256(whole) == sha256:
                os.utime(whole)
                return size
            whole.unlink()
        present = part.stat().st_size if part.is_file() else 0
        self._free_space(size - present, part)
        return present if present < size else 0

    def add(self, sha256: str, size: int, offset: int, data: bytes) -> int:
        """Write a part of a file, and check the hash after the last part. Return the number of bytes on the board."""
        whole, part = self._named(sha256)
        try:
            with write_errors(self.root), part.open("r+b" if offset else "wb") as file:
                file.truncate(offset)
                file.seek(offset)
                file.write(data)
        except DeviceError:
            part.unlink()  # the disk is full: free the space
            raise
        if offset + len(data) < size:
            return offset + len(data)
        if _sha256(part) != sha256:
            part.unlink()
            raise DeviceError(
                "a received file differs from the one that was sent. Run again; if it fails again, check the disk."
            )
        os.replace(part, whole)
        return size

    def place(self, files: list[dict[str, str]], keep: bool) -> str:
        """Place files under their names in a new folder of the run, and return its path.

        keep: whether the files also stay in the cache.
        """
        with write_errors(self.root):
            folder = Path(tempfile.mkdtemp(prefix="files-", dir=self.run))
            for file in files:
                target = _made(folder, file["name"])
                source = self._named(file["sha256"])[0]
                if not target.exists():  # a model may have two names for one file
                    _link(source, target)
                if not keep:
                    source.unlink()
        return str(folder)

    def path_of(self, sha256: str) -> Path:
        """The path of a complete file."""
        return self._named(sha256)[0]

    def _named(self, sha256: str) -> tuple[Path, Path]:
        if not _HASH.match(sha256):
            raise DeviceError(f"{sha256[:80]!r} is not a sha256. Use the same edgefc on both sides.")
        return self.files / sha256, self.files / f"{sha256}.part"

    def _free_space(self, wanted: int, part: Path) -> None:
        """Remove the least recently used files until the disk has `wanted` bytes free.

        Raises:
            DeviceError: the disk is full although all other files were removed.
        """
        others = (path for path in self.files.iterdir() if path != part)
        oldest = sorted(others, key=lambda path: path.stat().st_mtime)
        while shutil.disk_usage(self.root).free < wanted + _SPARE and oldest:
            oldest.pop(0).unlink()
        free = shutil.disk_usage(self.root).free
        if free < wanted + _SPARE:
            raise DeviceError(
                f"the disk is full: {wanted} bytes and a reserve of {_SPARE} are needed, and {free} are free. "
                "Free some space there, or set XDG_CACHE_HOME there to a folder on a larger disk."
            )

    def _new_run(self) -> tuple[Path, IO[str]]:
        while True:
            path = self.runs / f"{os.getpid()}-{os.urandom(6).hex()}"
            lock = _locked(path.with_suffix(".lock"))
            if lock is not None:
                lock.write(holder.own())
                lock.flush()
                path.mkdir(mode=0o700)
                return path, lock


class write_errors:
    """Convert an OSError within the block to a DeviceError that names the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            advice = "Free some space there, or set" if error.errno in _FULL else "Set"
            raise DeviceError(
                f"the device cannot write {self.folder}: {reason_of(error)}. "
                f"{advice} XDG_CACHE_HOME there to a writable folder."
            ) from None


def _made(folder: Path, name: str) -> Path:
    """The path for a file in a folder. Every folder in its name is created, because onnxruntime opens it by its name.

    For a/../w the path is w, and the folder a is created too.
    """
    folders: list[str] = []
    parts = PurePosixPath(name).parts
    for part in parts[:-1]:
        if part != "..":
            folders.append(part)
        elif folders:
            folders.pop()
        else:
            inside(name)  # raises
        folder.joinpath(*folders).mkdir(parents=True, exist_ok=True)
    return folder / inside("/".join((*folders, *parts[-1:])))


def inside(name: str) -> Path:
    """A relative path that stays in its folder.

    Raises:
        DeviceError: the name is empty, absolute, or contains "..".
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise DeviceError(f"{name[:80]!r} is not inside the model's folder. Put the weights into that folder.")
    return Path(*parts)


def _locked(path: Path, tries: int = 1) -> IO[str] | None:
    """The file, locked for as long as it is open; None if another process has locked it."""
    file = path.open("a")
    for number in range(tries):
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:  # not removed since
                return file
        if number + 1 < tries:
            time.sleep(_PAUSE_S)
    file.close()
    return None


def _remove(folder: Path) -> None:
    """Remove a folder. A probe that was just killed may still write into it for a moment, so try several times."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_PAUSE_S)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # Android, FAT
        shutil.copyfile(source, target)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()
