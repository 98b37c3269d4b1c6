"""The agent's folder on a board, ~/.cache/edgefc. Standard library only, Python 3.9.

    agent/   the agent itself, by its hash
    files/   what was sent, by sha256; NAME.part is one still coming, which a later transfer goes on with
    lib/     what `devices provision` put there: site/ with Python packages, and the native library
    runs/    one folder for each run, removed at its end; NAME.lock is held while the run lives and names its
             process, so that the next run removes what a killed one left, and ends one that is stopped

Nothing from outside becomes a path before it was checked: hashes are hexadecimal, names stay inside their folder.
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
_SPARE = 8 << 20  # bytes of the disk that are left free
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ABANDONED_S = 600.0  # after which a file that the boot program was writing is nobody's any more


class Store:
    """The folder, and one run in it.

    Raises:
        DeviceError: the disk is full, or the folder cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.files, self.runs = root, root / "files", root / "runs"
        with said(root):
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
        """Remove the folders of runs that ended without doing so, or that are stopped; how many there were."""
        for part in (self.root / "agent").glob("*.pyz.*"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _ABANDONED_S:
                    part.unlink()
        return sum(self._swept(path) for path in self.runs.glob("*.lock"))

    def end(self, run: str) -> None:
        """End the agent of that run, whose host has lost it, and remove its folder."""
        if not _RUN.match(run):
            raise DeviceError(f"{run[:80]!r} is no name of a run. Use the same edgefc on both sides.")
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
        """Be the only one that measures here until this process ends."""
        self._busy = self._busy or _locked(self.root / "busy.lock")
        if self._busy is None:
            raise DeviceError("another edgefc measures on this device. Wait until it has ended.")

    def have(self, sha256: str, size: int) -> int:
        """How many bytes of that file are here; all of them only when their hash was checked just now."""
        whole, part = self._named(sha256)
        if whole.is_file():
            if whole.stat().st_size == size and _sha256(whole) == sha256:
                os.utime(whole)
                return size
            whole.unlink()
        there = part.stat().st_size if part.is_file() else 0
        self._make_room(size - there, part)
        return there if there < size else 0

    def add(self, sha256: str, size: int, offset: int, data: bytes) -> int:
        """Write a piece of a file; the last one is followed by the check of its hash. The bytes that are here then."""
        whole, part = self._named(sha256)
        try:
            with said(self.root), part.open("r+b" if offset else "wb") as file:
                file.truncate(offset)
                file.seek(offset)
                file.write(data)
        except DeviceError:
            part.unlink()  # a full disk: leave the room to others
            raise
        if offset + len(data) < size:
            return offset + len(data)
        if _sha256(part) != sha256:
            part.unlink()
            raise DeviceError(
                "a file arrived with other bytes than were sent. Run again; check the disk there if it happens again."
            )
        os.replace(part, whole)
        return size

    def place(self, files: list[dict[str, str]], keep: bool) -> str:
        """Files side by side under their names in a new folder of the run; its path. Without keep, only there."""
        with said(self.root):
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
        """Of a file that is here whole."""
        return self._named(sha256)[0]

    def _named(self, sha256: str) -> tuple[Path, Path]:
        if not _HASH.match(sha256):
            raise DeviceError(f"{sha256[:80]!r} is no sha256. Use the same edgefc on both sides.")
        return self.files / sha256, self.files / f"{sha256}.part"

    def _make_room(self, wanted: int, part: Path) -> None:
        """Remove the files that were not used for longest until the disk has room, or say that it has not."""
        others = (path for path in self.files.iterdir() if path != part)
        oldest = sorted(others, key=lambda path: path.stat().st_mtime)
        while shutil.disk_usage(self.root).free < wanted + _SPARE and oldest:
            oldest.pop(0).unlink()
        free = shutil.disk_usage(self.root).free
        if free < wanted + _SPARE:
            raise DeviceError(
                f"the disk is full: {wanted} bytes are needed beside {_SPARE} to spare, and {free} are free. "
                "Remove something there, or set XDG_CACHE_HOME to a larger disk."
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


class said:
    """Turns an OSError within the block into a DeviceError of one sentence."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            room = "Make room there, or set" if error.errno in _FULL else "Set"
            raise DeviceError(
                f"the device cannot write {self.folder}: {reason_of(error)}. "
                f"{room} XDG_CACHE_HOME there to a folder that can be written."
            ) from None


def _made(folder: Path, name: str) -> Path:
    """The place of a file in a folder, with every folder that its name goes through: onnxruntime opens it by its name.

    a/../w is w, beside a folder a.
    """
    way: list[str] = []
    parts = PurePosixPath(name).parts
    for part in parts[:-1]:
        if part != "..":
            way.append(part)
        elif way:
            way.pop()
        else:
            inside(name)  # which raises
        folder.joinpath(*way).mkdir(parents=True, exist_ok=True)
    return folder / inside("/".join((*way, *parts[-1:])))


def inside(name: str) -> Path:
    """A relative name that stays in its folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise DeviceError(f"{name[:80]!r} names no file within a folder. Put weights beside their model.")
    return Path(*parts)


def _locked(path: Path, tries: int = 1) -> IO[str] | None:
    """The file, locked for as long as it is open; None when someone else has it."""
    file = path.open("a")
    for number in range(tries):
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.fstat(file.fileno()).st_ino == path.stat().st_ino:  # not swept meanwhile
                return file
        if number + 1 < tries:
            time.sleep(_PAUSE_S)
    file.close()
    return None


def _remove(folder: Path) -> None:
    """A probe that was killed just now may still write into it for a moment."""
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
