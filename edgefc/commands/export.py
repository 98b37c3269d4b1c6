"""edgefc export SOURCE -o model.onnx [--weights FILE] [--input SHAPE ...]

Write a torch model as one .onnx file and check it.

SOURCE names a function without arguments that returns the model, or (model, example inputs):

    edgefc export mypackage.models:tiny -o tiny.onnx
    edgefc export train.py:make_model --weights trained.safetensors --input 1x64 -o model.onnx

Each structured layer becomes one edgefc:: node whose body is standard ONNX, so any runtime can run the file.
The first axis of every input stays open, and so do the token axes of inputs that have the names of transformers models
(input_ids, attention_mask, ...). --dynamic opens others, and what stays fixed is listed:

    edgefc export train.py:detector --dynamic image:2=height,image:3=width -o detector.onnx

Afterwards the file is run in onnxruntime against the torch model; a file that differs is not written.
Weights of 32 MiB and more go into a file beside it, model-0123456789ab.onnx.data: the digits are a hash of them. When a
model is replaced, its weights are removed, unless another .onnx file there names them.
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
"""How many names one line lists."""
_LONGEST = 160
"""Characters of one of them that are shown, with its sizes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="package.module:factory or file.py:factory")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    parser.add_argument("--weights", type=Path, metavar="FILE", help=".safetensors, or a state dict saved by torch")
    parser.add_argument("--input", action="append", default=[], metavar="SHAPE[:DTYPE]",
                        help="example input, such as 1x64 or 1x16:int64; once for each input")  # fmt: skip
    parser.add_argument("--opset", type=whole, default=20, metavar="N", help="18 to 23 (default: 20)")
    parser.add_argument("--body", type=body, action="append", default=[], metavar="OP=NAME",
                        help="how an operator is written in standard ONNX, such as CirculantLinear=dft or "
                             "PRPLinear=streaming; edgefc/export/README.md lists the bodies")  # fmt: skip
    for old, op in _OLD_BODIES.items():
        parser.add_argument(f"--{old}", metavar="NAME",
                            help=f"the old name of --body {op}=NAME; it goes with the next release")  # fmt: skip
    parser.add_argument("--dynamic", type=axes, action="append", default=[], metavar="INPUT:AXIS=NAME[,...]",
                        help="leave more axes open; axes of one name have one size")  # fmt: skip
    parser.add_argument("--fixed-batch", action="store_true",
                        help="fix the sizes of the example inputs, but for the axes of --dynamic")  # fmt: skip
    parser.add_argument("--output-names", type=names, metavar="NAME[,NAME]", help="names for the outputs, in order")
    parser.add_argument("--cache", action="store_true",
                        help="keys and values of a transformers decoder as inputs and outputs")  # fmt: skip
    parser.add_argument("--flat", action="store_true", help="no functions: for tools that do not look into them")
    parser.add_argument("--no-verify", action="store_true", help="do not run the file against the model")
    parser.add_argument("--allow-nonfinite", action="store_true",
                        help="accept weights and outputs of NaN or infinities, if they are the same")  # fmt: skip
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
    """'PRPLinear=streaming' as a pair; argparse shows the sentence. Which names there are, export() says."""
    op, _, name = (part.strip() for part in text.partition("="))
    if not (op.isidentifier() and name.isidentifier()):
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not OP=NAME. Write an operator and one of its bodies, such as PRPLinear=streaming."
        )
    return op, name


def _bodies(args: argparse.Namespace) -> dict[str, str]:
    """What --body asks for, and the options that had its place before."""
    bodies = dict(args.body)
    for old, op in _OLD_BODIES.items():
        name = getattr(args, old)
        if name is not None:
            err(f"edgefc export: --{old} {name} is now --body {op}={name}. The old form goes with the next release.")
            bodies.setdefault(op, name)
    return bodies


def schema(name: str) -> dict[str, Any]:
    from edgefc.commands.schema import add_property, schema_of, with_null
    from edgefc.export import ExportReport

    found = schema_of(ExportReport)
    add_property(found["$defs"]["Comparison"], "holds", bool)
    add_property(found["$defs"]["VerifyReport"], "holds", bool)
    add_property(found["$defs"]["VerifyReport"], "sentence", str)
    return dict(with_null(found))


def axes(text: str) -> dict[str, dict[int, str]]:
    """'ids:1=tokens,mask:1=tokens' as {"ids": {1: "tokens"}, ...}; argparse shows the sentence."""
    found: dict[str, dict[int, str]] = {}
    for part in text.split(","):
        place, _, name = part.strip().partition("=")
        label, _, axis = place.rpartition(":")
        if not (label and axis.isascii() and axis.isdigit() and len(axis) < 4 and name.isidentifier()):
            raise argparse.ArgumentTypeError(
                f"{shown(text)} is no list of INPUT:AXIS=NAME. Write the input, the axis counted from 0 and a name for "
                "its size, such as input_ids:1=tokens."
            )
        found.setdefault(label, {})[int(axis)] = name
    return found


def names(text: str) -> list[str]:
    """'scores,boxes' as a list; argparse shows the sentence."""
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"{shown(text)} is no list of names. Write names such as scores,boxes.")
    return found


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
    out(f"  verified           {report.verified.sentence() if report.verified else 'no, as asked'}")


def _first(items: Sequence[str]) -> str:
    """The first few of a list, and how many more there are. Models have names of any length."""
    more = f", and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(shortened(item, _LONGEST) for item in items[:_SHOWN]) + more


def _described(info: "TensorInfo") -> str:
    return f"{shortened(info.name, _LONGEST // 2)} ({', '.join(map(str, info.shape))})"
