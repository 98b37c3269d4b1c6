"""edgefc export SOURCE -o model.onnx [--weights FILE] [--input SHAPE ...]

Write a torch model as one .onnx file and check it.

SOURCE names a function without arguments that returns the model, or (model, example inputs):

    edgefc export mypackage.models:tiny -o tiny.onnx
    edgefc export train.py:make_model --weights trained.safetensors --input 1x64 -o model.onnx

Each structured layer becomes one edgefc:: node whose body is standard ONNX, so any runtime can run the file.
Afterwards the file is run in onnxruntime against the torch model; a file that differs is not written.
Weights of 32 MiB and more go beside the file, into model.onnx.data.
"""

import argparse
import dataclasses
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="package.module:factory or file.py:factory")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    parser.add_argument("--weights", type=Path, metavar="FILE", help=".safetensors, or a state dict saved by torch")
    parser.add_argument("--input", action="append", default=[], metavar="SHAPE[:DTYPE]",
                        help="example input, such as 1x64 or 1x16:int64; once for each input")  # fmt: skip
    parser.add_argument("--opset", type=int, default=20, metavar="N", help="18 to 23 (default: 20)")
    parser.add_argument("--circulant", choices=("matmul", "dft"), default="matmul",
                        help="circulant layers by matrix products, or the DFT operator (default: matmul)")  # fmt: skip
    parser.add_argument("--prp", choices=("auto", "resident", "streaming"), default="auto",
                        help="body of PRP layers: matrix folded at load (fast), or made a band at a time (little "
                             "memory, slow); auto folds up to 64 MiB (default: auto)")  # fmt: skip
    parser.add_argument("--fixed-batch", action="store_true", help="keep the batch size of the example inputs")
    parser.add_argument("--flat", action="store_true", help="no functions: for tools that do not look into them")
    parser.add_argument("--no-verify", action="store_true", help="do not run the file against the model")
    parser.add_argument("--force", action="store_true", help="replace the output file if it exists")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the report for machines")


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import UsageError
    from edgefc.export import export
    from edgefc.export.source import load_model
    from edgefc.files import check_writable, exists, write_text

    for place in (args.output, Path(f"{args.output}.data")):
        if exists(place) and not args.force:
            raise UsageError(f"{place} exists. Choose another name, or replace it with --force.")
    check_writable(args.output, *([args.weights] if args.weights else []))
    if args.json is not None:
        check_writable(args.json, args.output, *([args.weights] if args.weights else []))
    model, inputs = load_model(args.source, args.weights, args.input)
    report = export(
        model,
        inputs,
        args.output,
        dynamic_batch=not args.fixed_batch,
        opset=args.opset,
        circulant=args.circulant,
        prp=args.prp,
        flat=args.flat,
        verify=not args.no_verify,
    )
    if args.json:
        write_text(args.json, json.dumps(dataclasses.asdict(report), indent=2, default=str) + "\n")
    data = f" + {report.data_bytes:,} of weights" if report.data_bytes else ""
    more = ", ..." if len(report.layers) > 6 else ""
    names = f" ({', '.join(report.layers[:6])}{more})" if report.layers else ""
    print(f"{args.output}: {report.file_bytes:,} bytes{data}")
    print(f"  structured layers  {len(report.layers)}{names}")
    if report.circulant:
        print(f"  circulant body     {report.circulant}")
    if report.prp:
        print(f"  PRP body           {report.prp}: {report.prp_reason}")
    print(f"  verified           {report.verified.sentence() if report.verified else 'no, as asked'}")
    return 0
