"""edgefc layers [--markdown PATH] [--json PATH]

List every structured layer: what it stores and computes, and what its paper claims.

    edgefc layers

For each layer of the five papers, in one common size: the trained numbers, the dense layer's beside them, multiply-adds
of one input row (one position of an image, one step of a sequence), the bytes of its state dict and of its .onnx file,
the ops in that file, the paper's claim, and what the recipe that trains it measured. Every file is exported on the
spot, which takes a minute. Nothing is timed here: that is edgefc profile.
"""

import argparse
import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

from edgefc.outputs import add_json, check_outputs

TASK, SCHEMAS, EXTRA = "learn", ("layers",), "torch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the table as a page")
    add_json(parser, "the same")


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import needs_extra
    from edgefc.files import write_text
    from edgefc.tables import print_table

    with needs_extra(EXTRA, "edgefc layers"):
        for package in ("torch", "onnx", "onnxscript", "onnx_ir"):
            importlib.import_module(package)
    from edgefc.catalogue.page import markdown
    from edgefc.catalogue.rows import COLUMNS, LEFT, cells, rows

    check_outputs([args.markdown, args.json], force=args.force)
    found = rows()
    print_table(COLUMNS, [cells(row) for row in found], left=LEFT)
    if args.markdown:
        write_text(args.markdown, markdown(found))
    if args.json:
        write_text(args.json, json.dumps([dataclasses.asdict(row) for row in found], indent=2) + "\n")
    return 0


def schema(name: str) -> dict[str, Any]:
    from edgefc.catalogue.rows import Row
    from edgefc.commands.schema import schema_of

    return schema_of(list[Row])
