"""edgefc export SOURCE -o model.onnx [--weights FILE] [--input SHAPE ...]

Export a torch model to an .onnx file and verify the file.

SOURCE names a function without arguments that returns the model, or (model, example inputs):

    edgefc export mypackage.models:tiny -o tiny.onnx
    edgefc export train.py:make_model --weights trained.safetensors --input 1x64 -o model.onnx

Each structured layer becomes one edgefc:: node whose body is standard ONNX, so any runtime can run the file.

By default two kinds of axes are dynamic: the first axis of every input, and the token axes of inputs with the names of
transformers models (input_ids, attention_mask, ...). --dynamic makes other axes dynamic. The report lists fixed axes:

    edgefc export train.py:detector --dynamic image:2=height,image:3=width -o detector.onnx

The exported file is run in onnxruntime and compared with the torch model. If they differ, no file is written.

Weights of 32 MiB and more are stored beside the .onnx file in model-0123456789ab.onnx.data, with a hash of the weights
in the name. If a model is replaced, its old weights file is removed, unless another .onnx file in the folder uses it.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefc.errors import shortened
from edgefc.options import shown, whole
from edgefc.outputs import add_json, check_outputs
from edgefc.screen import err, out

if TYPE_CHECKING:
    from edgefc.export.exporter import ExportReport, TensorInfo

TASK, SCHEMAS, EXTRA = "make", ("export",), "torch"

_OLD_BODIES = {"circulant": "CirculantLinear", "prp": "PRPLinear"}

_SHOWN = 6
"""The number of names that one line lists."""
_LONGEST = 160
"""The number of characters shown of a name with its sizes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="package.module:factory or file.py:factory")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help=".safetensors, a state dict saved by torch, or a folder of edgefc replace",
    )
    parser.add_argument("--input", action="append", default=[], metavar="SHAPE[:DTYPE]",
                        help="an example input, such as 1x64 or 1x16:int64; repeat it for each input")  # fmt: skip
    parser.add_argument("--opset", type=whole, default=20, metavar="N", help="the ONNX opset, 18 to 23 (default: 20)")
    parser.add_argument("--body", type=body, action="append", default=[], metavar="OP=NAME",
                        help="the body of an operator in standard ONNX, such as CirculantLinear=dft or "
                             "PRPLinear=streaming; edgefc/export/README.md lists the bodies")  # fmt: skip
    for old, op in _OLD_BODIES.items():
        parser.add_argument(f"--{old}", metavar="NAME",
                            help=f"deprecated: use --body {op}=NAME; the next release removes this option")  # fmt: skip
    parser.add_argument("--dynamic", type=axes, action="append", default=[], metavar="INPUT:AXIS=NAME[,...]",
                        help="make more axes dynamic; axes with the same name have the same size")  # fmt: skip
    parser.add_argument("--fixed-batch", action="store_true",
                        help="fix all sizes to those of the example inputs, except the axes of --dynamic")  # fmt: skip
    parser.add_argument("--output-names", type=names, metavar="NAME[,NAME]", help="names for the outputs, in order")
    parser.add_argument("--cache", action="store_true",
                        help="keys and values of a transformers decoder as inputs and outputs")  # fmt: skip
    parser.add_argument("--flat", action="store_true", help="inline functions, for tools that do not support them")
    parser.add_argument("--no-verify", action="store_true", help="do not compare the file with the model")
    parser.add_argument("--allow-nonfinite", action="store_true",
                        help="accept NaN and infinities in weights and outputs, if both have the same")  # fmt: skip
    add_json(parser, "the report")


def run(args: argparse.Namespace) -> int:
    from edgefc.export import export
    from edgefc.export.model.source import load_model
    from edgefc.files import write_text

    check_outputs([args.output, args.json], force=args.force, inputs=[args.weights])
    model, inputs = load_model(args.source, args.weights, args.input, allow_nonfinite=args.allow_nonfinite)
    report = export(
        model,
        inputs,
        args.output,
        dynamic_batch=not args.fixed_batch,
        dynamic_shapes=_joined(args.dynamic),
        output_names=args.output_names,
        cache=args.cache,
        opset=args.opset,
        bodies=_bodies(args),
        flat=args.flat,
        verify=not args.no_verify,
        allow_nonfinite=args.allow_nonfinite,
    )
    _show(args.output, report)
    if args.json is not None:
        record = {**dataclasses.asdict(report), "verified": report.verified and report.verified.record()}
        write_text(args.json, json.dumps(record, indent=2, default=str) + "\n")
    return 0


def body(text: str) -> tuple[str, str]:
    """Parse 'PRPLinear=streaming' into a pair. argparse shows the error message. export() checks the names."""
    op, _, name = (part.strip() for part in text.partition("="))
    if not (op.isidentifier() and name.isidentifier()):
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not OP=NAME. Give an operator and one of its bodies, such as PRPLinear=streaming."
        )
    return op, name


def _bodies(args: argparse.Namespace) -> dict[str, str]:
    """The values of --body and of the deprecated options."""
    bodies = dict(args.body)
    for old, op in _OLD_BODIES.items():
        name = getattr(args, old)
        if name is not None:
            err(f"edgefc export: --{old} is deprecated. Use --body {op}={name}. The next release removes --{old}.")
            bodies.setdefault(op, name)
    return bodies


def schema(name: str) -> dict[str, Any]:
    from edgefc.commands.schema import add_property, schema_of, with_null
    from edgefc.export import ExportReport

    result = schema_of(ExportReport)
    add_property(result["$defs"]["Comparison"], "holds", bool)
    add_property(result["$defs"]["VerifyReport"], "holds", bool)
    add_property(result["$defs"]["VerifyReport"], "sentence", str)
    return dict(with_null(result))


def axes(text: str) -> dict[str, dict[int, str]]:
    """Parse 'ids:1=tokens,mask:1=tokens' into {"ids": {1: "tokens"}, ...}. argparse shows the error message."""
    dynamic: dict[str, dict[int, str]] = {}
    for part in text.split(","):
        place, _, name = part.strip().partition("=")
        label, _, axis = place.rpartition(":")
        if not (label and axis.isascii() and axis.isdigit() and len(axis) < 4 and name.isidentifier()):
            raise argparse.ArgumentTypeError(
                f"{shown(text)} is not a list of INPUT:AXIS=NAME. Give an input, an axis counted from 0 and a name for "
                "its size, such as input_ids:1=tokens."
            )
        dynamic.setdefault(label, {})[int(axis)] = name
    return dynamic


def names(text: str) -> list[str]:
    """Parse 'scores,boxes' into a list. argparse shows the error message."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a list of names. Give names such as scores,boxes.")
    return parts


def _joined(given: list[dict[str, dict[int, str]]]) -> dict[str, dict[int, str]] | None:
    joined: dict[str, dict[int, str]] = {}
    for each in given:
        for label, open_axes in each.items():
            joined[label] = {**joined.get(label, {}), **open_axes}
    return joined or None


def _show(output: Path, report: "ExportReport") -> None:
    data = f" + {report.data_bytes:,} of weights in {report.data.name}" if report.data else ""
    out(f"{output}: {report.file_bytes:,} bytes{data}")
    out(f"  structured layers  {len(report.layers)}{f' ({_first(report.layers)})' if report.layers else ''}")
    out(f"  inputs             {_first([_described(info) for info in report.inputs])}")
    out(f"  outputs            {_first([_described(info) for info in report.outputs])}")
    if report.fixed:
        out(f"  fixed sizes        {_first(report.fixed)}")
    for op, choice in report.bodies.items():
        out(f"  body               {op}: {choice.name} ({choice.reason})")
    for note in report.notes:
        out(f"  note               {note}")
    out(f"  verified           {report.verified.sentence() if report.verified else 'no (--no-verify)'}")


def _first(items: Sequence[str]) -> str:
    """The first items of a list, shortened, and the number of the others."""
    more = f", and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(shortened(item, _LONGEST) for item in items[:_SHOWN]) + more


def _described(info: "TensorInfo") -> str:
    return f"{shortened(info.name, _LONGEST // 2)} ({', '.join(map(str, info.shape))})"
