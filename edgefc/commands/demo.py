"""edgefc demo [-o FOLDER] [--seeds N]

Train a small network dense and structured, export both, and compare what they cost.

    edgefc demo

The data are scikit-learn's 1,797 handwritten digits, which need no download. A perceptron 64 -> 2048 -> 2048 -> 10 is
trained with torch.nn.Linear, edgefc.CirculantLinear and edgefc.PRPLinear in its first two layers, several times each,
with another split and another start: this is the recipe digits-mlp of `edgefc recipe`. One of each is exported, PRP
twice: resident (the random matrix made once, when the file is loaded) and streaming (made again in every run, a band
at a time). Each .onnx file is run against its torch model, then all four take turns on this machine, on one thread.

Two tables show test accuracy by kind of layer, and size, memory, load time and latency by file. The sentences below
them say in what a structured network is worse and in what it is better; a difference within the spread is not called
one.

Everything is in FOLDER, about 36 MB: the .onnx files, weights (.safetensors), table.md, costs.md, summary.json,
record.json. When stopped, the same command continues after the trainings that were finished. Exports and measurements
are made anew each time. A folder that holds other things is left alone.

From there, with your own files:

    edgefc inspect edgefc-demo/circulant.onnx
    edgefc verify edgefc-demo/circulant.onnx edgefc.recipes.digits_mlp:circulant \\
        --weights edgefc-demo/circulant.safetensors
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
        "--seeds", type=seeds, default=5, metavar="N",
        help="trainings of each kind (default: 5); fewer than 3 show no difference in accuracy",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import needs_extra

    with needs_extra("demo", "edgefc demo"):
        for package in ("torch", "sklearn.datasets", "scipy.stats", "onnx", "onnxscript", "onnx_ir", "safetensors"):
            importlib.import_module(package)
    from edgefc.demo.run import demo
    from edgefc.screen import out

    demo(args.output, args.seeds)
    model, weights = (shlex.quote(str(args.output / name)) for name in ("circulant.onnx", "circulant.safetensors"))
    out("", f"To check again: edgefc verify {model} edgefc.recipes.digits_mlp:circulant --weights {weights}")
    return 0
