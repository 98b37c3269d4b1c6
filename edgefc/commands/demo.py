"""edgefc demo [-o FOLDER] [--seeds N]

Train a small network with dense and with structured layers, export both, and compare their costs.

    edgefc demo

The data are the 1,797 handwritten digits of scikit-learn, which need no download. The network is a perceptron
64 -> 2048 -> 2048 -> 10. Its first two layers are torch.nn.Linear, edgefc.CirculantLinear or edgefc.PRPLinear. Each
kind is trained several times, with a different split of the data and a different initialisation: this is the recipe
digits-mlp of `edgefc recipe`. One model of each kind is exported. PRP is exported twice: resident (the random matrix
is computed once, when the file is loaded) and streaming (it is computed in every run, a band at a time). Each .onnx
file is compared with its torch model. Then the four files are measured in turns on this machine, on one thread.

The first table shows the test accuracy for each kind of layer. The second table shows size, memory, load time and
latency for each file. The sentences below the tables state where a structured network is worse and where it is better.
A difference within the spread is not reported as a difference.

FOLDER holds all results, about 36 MB: .onnx files, weights (.safetensors), table.md, costs.md, summary.json and
record.json. If the command is interrupted, run it again: finished trainings are reused, exports and measurements are
repeated. A folder with other contents is not changed.

Next steps:

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
        help="folder for all results (default: edgefc-demo)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=seeds, default=5, metavar="N",
        help="number of trainings of each kind (default: 5); fewer than 3 cannot show a difference in accuracy",
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
    out("", f"To verify a file again: edgefc verify {model} edgefc.recipes.digits_mlp:circulant --weights {weights}")
    return 0
