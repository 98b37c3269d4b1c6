"""edgefc inspect MODEL.onnx [--json PATH]

List the structured layers of a file, against what dense would cost.

    edgefc inspect model.onnx

For each layer: the dense matrix it stands for, the numbers and bytes stored in the file, and how many times fewer
that is than a dense layer with a bias. Nothing is run.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgefc.export.inspector import Layer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="the file to read")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the same for machines")


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import needs_extra
    from edgefc.files import check_writable, write_text
    from edgefc.tables import print_table

    with needs_extra("torch", "edgefc inspect"):
        from edgefc.export.inspector import inspect

    if args.json:
        check_writable(args.json, args.model)
    found = inspect(args.model)
    if args.json:
        write_text(args.json, json.dumps(dataclasses.asdict(found), indent=2) + "\n")
    data = f" + {found.data_bytes:,} of weights" if found.data_bytes else ""
    print(f"{found.file}: {found.file_bytes:,} bytes{data}, opset {found.opset}")
    if not found.layers:
        print(f"It holds no structured layer{found.why_none}; {found.other_numbers:,} numbers are stored.")
        return 0
    rows = [(layer.name, layer.op, layer.shape, layer.detail, *_sizes([layer])) for layer in found.layers]
    columns = ("layer", "op", "dense shape", "", "stored", "bytes", "dense bytes", "fewer")
    print_table(columns, [*rows, ("total", "", "", "", *_sizes(found.layers))], left=4, total=True)
    print(f"Other numbers in the file: {found.other_numbers:,}.")
    return 0


def _sizes(layers: "Sequence[Layer]") -> tuple[str, str, str, str]:
    stored, stored_bytes = sum(layer.stored for layer in layers), sum(layer.stored_bytes for layer in layers)
    dense, dense_bytes = sum(layer.dense for layer in layers), sum(layer.dense_bytes for layer in layers)
    fewer = f"{dense / stored:,.1f}x" if stored else "shared"
    return f"{stored:,}", f"{stored_bytes:,}", f"{dense_bytes:,}", fewer
