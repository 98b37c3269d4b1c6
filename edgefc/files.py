"""Files written beside and renamed: a reader sees the old file or the new one, never half of one."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgefc.errors import UsageError, reason_of


@contextmanager
def staged(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder beside `path`; when the block succeeds, every file in it moves to path's folder.

    Raises:
        UsageError: the folder does not exist and cannot be made, or cannot be written.
    """
    target = Path(path)
    with _said(target):
        target = target.resolve() if target.is_symlink() else target
        if target.is_dir():
            raise UsageError(f"cannot write {target}: it is a folder. Name a file in it.")
        if exists(target) and not target.is_file():
            raise UsageError(f"cannot write {target}: it is no ordinary file. Choose another name.")
        made = [parent for parent in target.parents if not parent.exists()]
    try:
        with _said(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except UsageError:
        _remove_empty(made)
        raise
    try:
        yield folder
        with _said(target):
            for file in sorted(folder.iterdir(), key=lambda file: file.name == target.name):  # the named file last
                os.replace(file, target.parent / file.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(made)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write one UTF-8 text file, whole or not at all."""
    with staged(path) as folder, _said(Path(path)):
        (folder / Path(path).name).write_text(text, encoding="utf-8")


def claim(folder: Path, mark: str, made_by: str) -> None:
    """Make the folder, or go on in one that the same command made; the file `mark` in it says who.

    Raises:
        UsageError: it holds files and `made_by` did not make it, or it cannot be made.
    """
    owner = {"made_by": made_by, "version": 1}
    try:
        strangers = [entry.name for entry in folder.iterdir()] if folder.exists() else []
        if strangers and json.loads((folder / mark).read_bytes()) != owner:
            raise ValueError
    except (OSError, ValueError):
        raise UsageError(
            f"{folder} is there and is no folder of {made_by}. Name a new one with -o; nothing was written."
        ) from None
    write_text(folder / mark, json.dumps(owner) + "\n")


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether something stands at `path`; a name that the system does not take is told in one sentence."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UsageError(f"cannot use {path}: {reason_of(error)}. Choose another name.") from None
    return True


def check_writable(path: str | os.PathLike[str], *others: str | os.PathLike[str]) -> None:
    """Say now that a file cannot be written, or that it is one of `others`, before minutes are spent on it."""
    for other in others:
        if os.path.realpath(path) == os.path.realpath(other):
            raise UsageError(f"cannot write {path}: this command uses that file already. Choose another name.")
    with staged(path):
        pass


def _remove_empty(folders: Iterable[Path]) -> None:
    """Those of the folders, innermost first, that nothing was put into."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def _said(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {target}: {reason_of(error)}. Choose a place that can be written.") from None
