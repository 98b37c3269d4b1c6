"""edgefc verify MODEL.onnx SOURCE [--weights FILE] [--input SHAPE ...]

Run an exported file against the torch model it came from.

    edgefc verify model.onnx train.py:make_model --weights trained.safetensors

Each output is compared on the example inputs, on drawn inputs of the same shapes, and at batches of 1 and 3 where the
file takes any batch. The measure is the normalised mean squared error, |onnx - torch|^2 / |torch|^2: it does not depend
on scale or size, and 1e-9 means about four and a half good digits. The output as a whole, each column and each row must
be within the bound, or within what rounding does to the same part of torch's output, which is measured with magnified
rounding errors. Of integers, booleans and whole numbers, at most 1 in 1,000 entries may differ, where rounding decides.
Outputs that are mostly NaN or infinite are refused, unless --allow-nonfinite is given.

Exit code 1, with the first layer that differs, when an output does not pass, or when the model is random.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from edgefc.outputs import add_json, check_outputs

TASK, SCHEMAS, EXTRA = "check", ("verify",), "torch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="the exported file")
    parser.add_argument("source", metavar="SOURCE", help="package.module:factory or file.py:factory")
    parser.add_argument("--weights", type=Path, metavar="FILE", help=".safetensors, or a state dict saved by torch")
    parser.add_argument("--input", action="append", default=[], metavar="SHAPE[:DTYPE]",
                        help="example input, such as 1x64 or 1x16:int64; once for each input")  # fmt: skip
    parser.add_argument("--allow-nonfinite", action="store_true",
                        help="accept weights and outputs of NaN or infinities, if they are the same")  # fmt: skip
    add_json(parser, "the comparisons")


def run(args: argparse.Namespace) -> int:
    from edgefc.export import verify
    from edgefc.export.model.source import load_model
    from edgefc.screen import out, reported

    check_outputs([args.json], force=args.force, inputs=[args.model, args.weights])
    model, inputs = load_model(args.source, args.weights, args.input, allow_nonfinite=args.allow_nonfinite)
    report = verify(args.model, model, inputs, allow_nonfinite=args.allow_nonfinite)
    record = json.dumps(report.record(), indent=2) + "\n"
    if not report.holds:
        with reported("edgefc verify"):
            _write(args.json, record)
        report.raise_if_failed(args.model.name)
    out(f"{args.model}: {report.sentence()}")
    _write(args.json, record)
    return 0


def schema(name: str) -> dict[str, Any]:
    from edgefc.commands.schema import add_property, schema_of, with_null
    from edgefc.export import VerifyReport

    found = schema_of(VerifyReport, holds=bool, sentence=str)
    add_property(found["$defs"]["Comparison"], "holds", bool)
    return dict(with_null(found))


def _write(path: Path | None, record: str) -> None:
    from edgefc.files import write_text

    if path is not None:
        write_text(path, record)
