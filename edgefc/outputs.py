"""The files that a command writes: their options, and the check before the work that they can be written."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgefc.errors import UsageError
from edgefc.files import check_writable, exists, place_of

Name = str | os.PathLike[str]


def add_json(parser: argparse.ArgumentParser, what: str, *, nested: bool = False) -> None:
    """The options --json PATH and --force.

    Args:
        nested: the parser is one of an action, and its command takes the options before the action too.
    """
    default: dict[str, Any] = {"default": argparse.SUPPRESS} if nested else {}
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help=f"write {what} here, for programs (edgefc schema)", **default
    )
    parser.add_argument("--force", action="store_true", help="replace output files that exist", **default)


def check_outputs(paths: Iterable[Name | None], *, force: bool, inputs: Iterable[Name | None] = ()) -> None:
    """Refuse, before minutes of work, files that exist or cannot be written. Paths that are None are skipped.

    Args:
        force: whether files that exist are replaced.
        inputs: files that the command reads, which are not replaced even so.

    Raises:
        UsageError: a file exists, cannot be written, is an input, or was named twice.
    """
    used = [path for path in inputs if path is not None]
    for path in paths:
        if path is None:
            continue
        check_writable(path, *used)
        if exists(place_of(path).target) and not force:
            raise UsageError(f"{path} exists. Choose another name, or replace it with --force.")
        used.append(path)
