"""edgefc layers [--markdown PATH] [--json PATH]

List every structured layer with its size, its cost and the claim of its paper.

    edgefc layers

The table has one row for each layer, all in a common size: the number of parameters and that of the dense layer, the
multiply-adds of one input row (one position of an image, one step of a sequence), the bytes of its state dict and of
its .onnx file, the operators in that file, the claim of the paper, and the result of the recipe that trains the layer.

Every layer is exported while the command runs, which takes a minute. The command does not measure speed: use
edgefc profile or edgefc bench for that.
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
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the table to this file as a Markdown page")
    add_json(parser, "the table")


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
    table = rows()
    print_table(COLUMNS, [cells(row) for row in table], left=LEFT)
    if args.markdown:
        write_text(args.markdown, markdown(table))
    if args.json:
        write_text(args.json, json.dumps([dataclasses.asdict(row) for row in table], indent=2) + "\n")
    return 0


def schema(name: str) -> dict[str, Any]:
    from edgefc.catalogue.rows import Row
    from edgefc.commands.schema import schema_of

    return schema_of(list[Row])
