"""Files written beside and renamed: a reader sees the old file or the new one, never half of one."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgefc.errors import UsageError


@contextmanager
def staged(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder beside `path`; when the block succeeds, every file in it moves to path's folder.

    Raises:
        UsageError: the folder does not exist and cannot be made, or cannot be written.
    """
    target = Path(path)
    folder = None
    try:
        if target.is_dir():
            raise UsageError(f"cannot write {target}: it is a folder. Name a file in it.")
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        yield folder
        for file in sorted(folder.iterdir()):
            os.replace(file, target.parent / file.name)
    except OSError as error:
        raise UsageError(
            f"cannot write {target}: {error.strerror or error}. Choose a place that can be written."
        ) from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write one UTF-8 text file, whole or not at all."""
    with staged(path) as folder:
        (folder / Path(path).name).write_text(text, encoding="utf-8")
