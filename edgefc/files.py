"""Atomic file writes: a file is written to a temporary folder beside its target and then renamed.

A reader sees the old file or the new file, never a partial one. A path may be a symbolic link, or pass through several.
The links are kept, and the file that they point to is replaced. The new file gets the permissions of the old one.

Each file is flushed to disk before it is renamed. File systems that report errors late (quotas, network shares) report
them at the flush, while the old file still exists. A power failure cannot leave an empty file under the name. Folders
are not flushed, so after a power failure the old file may be back, complete.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgefc import temporary
from edgefc.errors import UsageError, reason_of

TEMPORARY = ".edgefc-tmp-"
"""Prefix of the names of temporary folders. It is short, so that a file in them may have a name of any length."""

_MOST_LINKS = 40  # the limit of Linux


@dataclass(frozen=True)
class Place:
    """A path, and the file that it resolves to.

    path    as given
    target  the file itself, with its folder resolved; it need not exist
    links   the symbolic links from the path to the target, each with its folder resolved
    """

    path: Path
    target: Path
    links: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """The folder of the target. If the path is not a link, the folder as given."""
        return self.target.parent if self.links else self.path.parent

    def __str__(self) -> str:
        return f"{self.path} (a link to {self.target})" if self.links else str(self.path)


def place_of(path: str | os.PathLike[str]) -> Place:
    """Resolve the symbolic links of a path to the file that is to be written.

    Raises:
        UsageError: the path resolves to a folder or another non-regular file, or its links form a cycle.
    """
    given = Path(path)
    if "\0" in str(given):
        raise UsageError(f"cannot write {str(given)!r}: a name cannot contain a NUL character. Choose another name.")
    with writing(given):
        at, links = Path(os.path.realpath(given.parent), given.name), list[Path]()
        while at.is_symlink():
            links.append(at)
            if len(links) > _MOST_LINKS:
                raise UsageError(f"cannot write {given}: its symbolic links form a cycle. Choose another name.")
            at = at.parent / os.readlink(at)
            at = Path(os.path.realpath(at.parent), at.name)
        place = Place(given, at, tuple(links))
        if os.path.isdir(given):
            raise UsageError(f"cannot write {place}: it is a folder. Name a file in it.")
        if os.path.exists(given) and not os.path.isfile(given):
            raise UsageError(f"cannot write {place}: it is not a regular file. Choose another name.")
    return place


@contextmanager
def staging(place: Place) -> Iterator[Path]:
    """Make a temporary folder beside the target, and the parent folders of the target that do not exist.

    At the end of the block the temporary folder is removed, and so are the new parent folders that are still empty.

    Raises:
        UsageError: the parent folder cannot be created or written.
    """
    made = [parent for parent in place.target.parents if not os.path.exists(parent)]
    try:
        with ExitStack() as stack:
            with writing(place):
                place.target.parent.mkdir(parents=True, exist_ok=True)
                folder = stack.enter_context(temporary.folder(TEMPORARY, place.target.parent))
                folder.chmod(0o700)  # independent of the umask
            try:
                yield folder
            finally:
                _allow_removing(folder)
    finally:
        for parent in made:  # innermost first; rmdir() fails for folders that are not empty
            with suppress(OSError):
                parent.rmdir()


def _allow_removing(folder: Path) -> None:
    """Make folders that a library created under a strict umask readable, so that they can be removed."""
    with suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                entry.chmod(0o700)


@contextmanager
def staged(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a temporary file for the block to write. If the block succeeds, the file replaces `path`.

    The temporary file has the same name as `path`.

    Raises:
        UsageError: the file or its folder cannot be written.
    """
    place = place_of(path)
    with staging(place) as folder, writing(place):
        file = folder / Path(path).name
        yield file
        finish(file, place.target)
        os.replace(file, place.target)


def finish(file: Path, target: Path) -> None:
    """Flush a file to disk. If the target exists, copy the permissions of the target."""
    _flush(file)
    with suppress(FileNotFoundError):
        bits = stat.S_IMODE(target.stat().st_mode) & 0o777
        if bits != stat.S_IMODE(file.stat().st_mode):
            with suppress(PermissionError):  # the file system has no permissions
                file.chmod(bits)


def _flush(file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_RDWR)
    except PermissionError:  # the umask removes the owner's read or write permission
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write one UTF-8 text file atomically."""
    with staged(path) as file:
        file.write_text(text, encoding="utf-8")


def claim(folder: Path, mark: str, made_by: str) -> None:
    """Create the folder, or reuse it if the same command created it. The file `mark` in it records the command.

    Raises:
        UsageError: the folder cannot be created, or it is not empty and was not created by `made_by`.
    """
    owner = {"made_by": made_by, "version": 1}
    try:
        contents = [entry.name for entry in folder.iterdir()] if folder.exists() else []
        if contents and json.loads((folder / mark).read_bytes()) != owner:
            raise ValueError
    except (OSError, ValueError):
        raise UsageError(
            f"{folder} already exists and was not created by {made_by}; nothing was written. Give another folder with "
            "-o."
        ) from None
    write_text(folder / mark, json.dumps(owner) + "\n")


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether a file, folder or link exists at `path`.

    Raises:
        UsageError: the system does not accept the name.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UsageError(f"cannot use {path}: {reason_of(error)}. Choose another name.") from None
    return True


def check_writable(path: str | os.PathLike[str], *others: str | os.PathLike[str]) -> None:
    """Check that a file can be written, before a long computation starts.

    Raises:
        UsageError: the file cannot be written, or is the same file as one of `others`.
    """
    for other in others:
        if os.path.realpath(path) == os.path.realpath(other):
            raise UsageError(f"cannot write {path}: this command uses that file already. Choose another name.")
    with staging(place_of(path)):
        pass


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Convert an OSError within the block into a UsageError "cannot write WHAT: ..."."""
    try:
        yield
    except OSError as error:
        full = error.errno in temporary.NO_ROOM
        remedy = "Free some space there, or choose another path." if full else "Choose a path that can be written."
        raise UsageError(f"cannot write {what}: {reason_of(error)}. {remedy}") from None
