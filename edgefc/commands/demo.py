"""edgefc demo [-o FOLDER] [--seeds N]

Train a small network dense and structured, export both, and compare what they cost.

    edgefc demo

The data are scikit-learn's 1,797 handwritten digits, which need no download. A perceptron 64 -> 2048 -> 2048 -> 10 is
trained with torch.nn.Linear, edgefc.CirculantLinear and edgefc.PRPLinear in its first two layers, several times each,
with another split and another start. One of each is exported, PRP twice: resident (the random matrix made once, when
the file is loaded) and streaming (made again in every run, a band at a time). Each .onnx file is run against its torch
model, then all four take turns on this machine, on one thread.

One table shows test accuracy, size, memory, load time and latency. The sentences below it say where a structured
network loses and where it wins; a difference that lies within the spread is not called one.

Everything is in FOLDER, about 130 MB: the .onnx files, weights (.safetensors), table.md, results.json, record.json.
When stopped, the same command goes on from the trainings that were finished. Exports and measurements are made anew
each time. A folder that holds other things is left alone.

From there, with your own files:

    edgefc inspect edgefc-demo/circulant.onnx
    edgefc verify edgefc-demo/circulant.onnx edgefc.demo.models:circulant --weights edgefc-demo/circulant.safetensors
    edgefc profile edgefc-demo/dense.onnx edgefc-demo/circulant.onnx --threads 1,2
"""

import argparse
import importlib
import shlex
from pathlib import Path

from edgefc.options import seeds

TASK = "learn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("edgefc-demo"), metavar="FOLDER",
        help="where everything goes (default: edgefc-demo)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=seeds, default=5, metavar="N", help="trainings of each kind (default: 5); 1 shows no spread"
    )


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import needs_extra

    with needs_extra("demo", "edgefc demo"):
        for package in ("torch", "sklearn.datasets", "scipy.stats", "onnx", "onnxscript", "onnx_ir", "safetensors"):
            importlib.import_module(package)
    from edgefc.demo.run import demo
    from edgefc.screen import out

    demo(args.output, args.seeds)
    folder = args.output
    files = [shlex.quote(str(folder / name)) for name in ("circulant.onnx", "circulant.safetensors")]
    out(f"To check again: edgefc verify {files[0]} edgefc.demo.models:circulant --weights {files[1]}")
    return 0
