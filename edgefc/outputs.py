"""The output files of a command: the options --json and --force, and a check before the work starts."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgefc.errors import UsageError
from edgefc.files import check_writable, exists, place_of

Name = str | os.PathLike[str]


def add_json(parser: argparse.ArgumentParser, what: str, *, nested: bool = False) -> None:
    """Add the options --json PATH and --force.

    Args:
        what: the content of the file, for the help text.
        nested: the parser belongs to an action of a command that also accepts these options before the action.
    """
    default: dict[str, Any] = {"default": argparse.SUPPRESS} if nested else {}
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help=f"write {what} to this JSON file (format: edgefc schema)", **default
    )
    parser.add_argument("--force", action="store_true", help="replace output files that exist", **default)


def check_outputs(paths: Iterable[Name | None], *, force: bool, inputs: Iterable[Name | None] = ()) -> None:
    """Check before the work starts that the output files can be written. Paths that are None are skipped.

    Args:
        force: allow output files that exist.
        inputs: files that the command reads. They must not be outputs, even with `force`.

    Raises:
        UsageError: a file exists, cannot be written, is an input, or is given twice.
    """
    used = [path for path in inputs if path is not None]
    for path in paths:
        if path is None:
            continue
        check_writable(path, *used)
        if exists(place_of(path).target) and not force:
            raise UsageError(f"{path} exists. Choose another name, or replace it with --force.")
        used.append(path)
