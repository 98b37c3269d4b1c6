"""Files written beside their place and renamed: a reader sees the old file or the new one, never half of one.

A path may be a symbolic link, or lead through several. The links stay, and the file that they lead to is written.
A file that is replaced passes its permissions on to the new one.

Each file is flushed to the disk before it is renamed. File systems that report errors late (quotas, network shares)
report them then, while the old file is still there, and a power failure cannot leave an empty file under the name.
Folders are not flushed: after a power failure the old file may be back, whole.
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
"""How the names of temporary folders begin. They are short, so that a file in them may have a name of any length."""

_MOST_LINKS = 40  # as Linux follows


@dataclass(frozen=True)
class Place:
    """Where a path leads.

    path    as it was given
    target  the file itself, in a folder without links; it need not exist
    links   the symbolic links from the path to the target, each in a folder without links
    """

    path: Path
    target: Path
    links: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        """Of the target; as it was given, where the path is no link."""
        return self.target.parent if self.links else self.path.parent

    def __str__(self) -> str:
        return f"{self.path} (a link to {self.target})" if self.links else str(self.path)


def place_of(path: str | os.PathLike[str]) -> Place:
    """Follow the links of a path to the file that is to be written.

    Raises:
        UsageError: it leads to a folder, to something else that is no file, or back to itself.
    """
    given = Path(path)
    if "\0" in str(given):
        raise UsageError(f"cannot write {str(given)!r}: a name has no NUL character. Choose another name.")
    with writing(given):
        at, links = Path(os.path.realpath(given.parent), given.name), list[Path]()
        while at.is_symlink():
            links.append(at)
            if len(links) > _MOST_LINKS:
                raise UsageError(f"cannot write {given}: its symbolic links lead in a circle. Choose another name.")
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
    """A temporary folder beside the target, with the folders that lead to it. It is removed at the end of the block.

    Raises:
        UsageError: the folder does not exist and cannot be made, or cannot be written.
    """
    made = [parent for parent in place.target.parents if not os.path.exists(parent)]
    try:
        with ExitStack() as stack:
            with writing(place):
                place.target.parent.mkdir(parents=True, exist_ok=True)
                folder = stack.enter_context(temporary.folder(TEMPORARY, place.target.parent))
                folder.chmod(0o700)  # whatever the umask is
            try:
                yield folder
            finally:
                _allow_removing(folder)
    finally:
        for parent in made:  # innermost first; those that hold a file stay
            with suppress(OSError):
                parent.rmdir()


def _allow_removing(folder: Path) -> None:
    """A umask may have taken the right to look into the folders that a library made there."""
    with suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                entry.chmod(0o700)


@contextmanager
def staged(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The path of a temporary file for the block to write; when the block succeeds, it takes the place of `path`.

    Its name ends as that of `path`.

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
    """Flush a file to the disk, and give it the permissions of the target where that exists."""
    _flush(file)
    with suppress(FileNotFoundError):
        bits = stat.S_IMODE(target.stat().st_mode) & 0o777
        if bits != stat.S_IMODE(file.stat().st_mode):
            with suppress(PermissionError):  # a file system without permissions
                file.chmod(bits)


def _flush(file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_RDWR)
    except PermissionError:  # a umask that takes the right to read and write
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write one UTF-8 text file, whole or not at all."""
    with staged(path) as file:
        file.write_text(text, encoding="utf-8")


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
    with staging(place_of(path)):
        pass


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Turn an error of the system, within the block, into one sentence that says what could not be written."""
    try:
        yield
    except OSError as error:
        full = error.errno in temporary.NO_ROOM
        remedy = "Make room there, or choose another place." if full else "Choose a place that can be written."
        raise UsageError(f"cannot write {what}: {reason_of(error)}. {remedy}") from None
