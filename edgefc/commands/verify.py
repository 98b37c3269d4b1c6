"""edgefc verify MODEL.onnx SOURCE [--weights FILE] [--input SHAPE ...]

Compare an exported file with the torch model that it was exported from.

    edgefc verify model.onnx train.py:make_model --weights trained.safetensors

The outputs are compared on the example inputs and on random inputs of the same shapes. If the file has a dynamic batch,
they are also compared at batch sizes 1 and 3.

The measure is the normalised mean squared error, |onnx - torch|^2 / |torch|^2. It does not depend on scale or size. A
value of 1e-9 means about four and a half correct digits. The whole output, each column and each row must be within the
bound or within the effect of rounding on the same part of torch's output. This effect is measured with magnified
rounding errors. For integers, booleans and floats with integral values, at most 1 in 1,000 entries may differ, and only
where rounding decides the value. Outputs that are mostly NaN or infinite fail, unless you pass --allow-nonfinite.

The exit code is 1 if an output fails or the model is random. The message names the first layer that differs.
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
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help=".safetensors, a state dict saved by torch, or a folder of edgefc replace",
    )
    parser.add_argument("--input", action="append", default=[], metavar="SHAPE[:DTYPE]",
                        help="an example input, such as 1x64 or 1x16:int64; repeat it for each input")  # fmt: skip
    parser.add_argument("--allow-nonfinite", action="store_true",
                        help="accept NaN and infinities in weights and outputs, if both have the same")  # fmt: skip
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

    result = schema_of(VerifyReport, holds=bool, sentence=str)
    add_property(result["$defs"]["Comparison"], "holds", bool)
    return dict(with_null(result))


def _write(path: Path | None, record: str) -> None:
    from edgefc.files import write_text

    if path is not None:
        write_text(path, record)
