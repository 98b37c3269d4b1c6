"""edgefc inspect MODEL.onnx [options]

List the layers of a file, the bytes that they store, and the bytes that structured layers save.

    edgefc inspect model.onnx
    edgefc inspect model.onnx --all --json layers.json

The first table has one row for each structured layer: the shape of the dense matrix that it replaces, the numbers and
bytes in the file, and the factor by which that is smaller than a dense layer with a bias.

The second table has one row for each torch layer, structured or not, with the largest first. For a dense layer it lists
the structured layers that could replace it. Files that edgefc did not write are grouped by the scopes in the names of
their nodes.

The command does not run the model and does not need torch.
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
    add_json(parser, "all layers")


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import needs_extra
    from edgefc.files import write_text

    with needs_extra(EXTRA, "edgefc inspect"):
        from edgefc.export.inspecting.inspector import inspect

    check_outputs([args.json], force=args.force, inputs=[args.model])
    inspection = inspect(args.model)
    _show(inspection, every=args.all)
    if args.json is not None:
        write_text(args.json, json.dumps(dataclasses.asdict(inspection), indent=2) + "\n")
    return 0


def schema(name: str) -> dict[str, Any]:
    from edgefc.commands.schema import schema_of
    from edgefc.export import Inspection

    return schema_of(Inspection)


def _show(inspection: "Inspection", *, every: bool) -> None:
    data = f" + {inspection.data_bytes:,} of weights" if inspection.data_bytes else ""
    out(f"{inspection.file}: {inspection.file_bytes:,} bytes{data}, opset {inspection.opset}")
    if inspection.layers:
        _show_structured(inspection, every=every)
    else:
        out(f"The file has no structured layers{inspection.why_none}; it stores {inspection.numbers:,} numbers.")
    if inspection.parts:
        out()
        _show_parts(inspection, every=every)


def _show_structured(inspection: "Inspection", *, every: bool) -> None:
    from edgefc.tables import first_rows, print_table

    rows = [(layer.name, layer.op, layer.shape, layer.detail, *_sizes([layer])) for layer in inspection.layers]
    columns = ("layer", "op", "dense shape", "", "stored", "bytes", "dense bytes", "smaller")
    shown, more = first_rows(rows, every)
    print_table(columns, [*shown, ("total", "", "", "", *_sizes(inspection.layers))], left=4)
    if more:
        out(more)
    inside = f" In local functions: {inspection.function_numbers:,}." if inspection.function_numbers else ""
    out(f"Other numbers in the file: {inspection.other_numbers:,}.{inside}")


def _show_parts(inspection: "Inspection", *, every: bool) -> None:
    from edgefc.tables import first_rows, print_table

    rows = [
        (part.layer or "(the model itself)", part.op, part.shape, ", ".join(part.fits),
         f"{part.numbers:,}", f"{part.bytes:,}", f"{100 * part.share:.1f} %")
        for part in inspection.parts
    ]  # fmt: skip
    shown, more = first_rows(rows, every)
    stored = sum(part.bytes for part in inspection.parts)
    share = f"{100 * sum(part.share for part in inspection.parts):.1f} %"
    total = ("total", "", "", "", f"{inspection.numbers:,}", f"{stored:,}", share)
    columns = ("every layer", "op", "largest weight", "structured layers that fit", "numbers", "bytes", "share")
    print_table(columns, [*shown, total], left=4)
    if more:
        out(more)


def _sizes(layers: "Sequence[Layer]") -> tuple[str, str, str, str]:
    stored, stored_bytes = sum(layer.stored for layer in layers), sum(layer.stored_bytes for layer in layers)
    dense_bytes = sum(layer.dense_bytes for layer in layers)
    smaller = f"{dense_bytes / stored_bytes:,.1f}x" if stored_bytes else "shared" if dense_bytes else "-"
    return f"{stored:,}", f"{stored_bytes:,}", f"{dense_bytes:,}", smaller
