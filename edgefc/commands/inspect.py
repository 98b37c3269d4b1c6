"""edgefc inspect MODEL.onnx [options]

List what the layers of a file store, and what its structured layers save.

    edgefc inspect model.onnx
    edgefc inspect model.onnx --all --json layers.json

For each structured layer: the dense matrix it stands for, the numbers and bytes stored in the file, and how many times
fewer that is than a dense layer with a bias. Then every torch layer by the bytes that it stores, structured or not,
with the structured layers that fit in the place of a dense one. Files that edgefc did not write are grouped by the
scopes in the names of their nodes. Nothing is run, and torch is not needed.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefc.outputs import add_json, check_outputs
from edgefc.screen import out

if TYPE_CHECKING:
    from edgefc.export.inspecting.inspector import Inspection, Layer

TASK, SCHEMAS, EXTRA = "check", ("inspect",), "torch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="the file to read")
    parser.add_argument("--all", action="store_true", help="print every layer (default: the 20 largest)")
    add_json(parser, "the same")


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import needs_extra
    from edgefc.files import write_text

    with needs_extra(EXTRA, "edgefc inspect"):
        from edgefc.export.inspecting.inspector import inspect

    check_outputs([args.json], force=args.force, inputs=[args.model])
    found = inspect(args.model)
    _show(found, every=args.all)
    if args.json is not None:
        write_text(args.json, json.dumps(dataclasses.asdict(found), indent=2) + "\n")
    return 0


def schema(name: str) -> dict[str, Any]:
    from edgefc.commands.schema import schema_of
    from edgefc.export import Inspection

    return schema_of(Inspection)


def _show(found: "Inspection", *, every: bool) -> None:
    data = f" + {found.data_bytes:,} of weights" if found.data_bytes else ""
    out(f"{found.file}: {found.file_bytes:,} bytes{data}, opset {found.opset}")
    if found.layers:
        _show_structured(found, every=every)
    else:
        out(f"It holds no structured layer{found.why_none}; {found.numbers:,} numbers are stored.")
    if found.parts:
        out()
        _show_parts(found, every=every)


def _show_structured(found: "Inspection", *, every: bool) -> None:
    from edgefc.tables import first_rows, print_table

    rows = [(layer.name, layer.op, layer.shape, layer.detail, *_sizes([layer])) for layer in found.layers]
    columns = ("layer", "op", "dense shape", "", "stored", "bytes", "dense bytes", "fewer")
    shown, more = first_rows(rows, every)
    print_table(columns, [*shown, ("total", "", "", "", *_sizes(found.layers))], left=4)
    if more:
        out(more)
    inside = f" In local functions: {found.function_numbers:,}." if found.function_numbers else ""
    out(f"Other numbers in the file: {found.other_numbers:,}.{inside}")


def _show_parts(found: "Inspection", *, every: bool) -> None:
    from edgefc.tables import first_rows, print_table

    rows = [
        (part.layer or "(the model itself)", part.op, part.shape, ", ".join(part.fits),
         f"{part.numbers:,}", f"{part.bytes:,}", f"{100 * part.share:.1f} %")
        for part in found.parts
    ]  # fmt: skip
    shown, more = first_rows(rows, every)
    stored = sum(part.bytes for part in found.parts)
    share = f"{100 * sum(part.share for part in found.parts):.1f} %"
    total = ("total", "", "", "", f"{found.numbers:,}", f"{stored:,}", share)
    columns = ("every layer", "op", "largest weight", "structured layers that fit", "numbers", "bytes", "share")
    print_table(columns, [*shown, total], left=4)
    if more:
        out(more)


def _sizes(layers: "Sequence[Layer]") -> tuple[str, str, str, str]:
    stored, stored_bytes = sum(layer.stored for layer in layers), sum(layer.stored_bytes for layer in layers)
    dense, dense_bytes = sum(layer.dense for layer in layers), sum(layer.dense_bytes for layer in layers)
    fewer = f"{dense / stored:,.1f}x" if stored else "shared"
    return f"{stored:,}", f"{stored_bytes:,}", f"{dense_bytes:,}", fewer
