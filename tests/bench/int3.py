"""Compare Int3Linear with dense, int8 and int4 layers of onnxruntime in one run, one thread.

    python tests/bench/int3.py
    EDGEFC_NATIVE_CPU=avx2 python tests/bench/int3.py --sizes 384x1536 --batch 1,16 --rounds 31

Int3Linear is rotated, with groups of 128, and runs by its native kernel. "int8" has dynamic activations, "int4" is
MatMulNBits with accuracy level 4, as in edgefc bench. EDGEFC_NATIVE_CPU does not change what onnxruntime's own kernels
use. Each figure is the median of rounds in which all layers take turns.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from side_by_side import numbers

import edgefc
from edgefc.bench import models
from edgefc.runtime import native
from edgefc.tables import print_table
from edgefc.testing import layer_model

WORK = 4e6  # multiply-adds of one timing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", default="1024x1024,384x1536,4096x4096", help="inputs x outputs (default: %(default)s)"
    )
    parser.add_argument("--batch", type=numbers, default=[1, 16, 64], help="rows at a time (default: 1,16,64)")
    parser.add_argument("--rounds", type=int, default=15, help="(default: 15)")
    args = parser.parse_args()
    rows = []
    for n, m in (numbers(size.replace("x", ",")) for size in args.sizes.split(",")):
        sessions = opened(n, m)
        for batch in args.batch:
            found = medians_us(sessions, n, m, batch, args.rounds)
            dense = found["dense"]
            rows.append([f"{n} to {m}", f"{batch}", *(f"{us:.1f} ({dense / us:.2f}x)" for us in found.values())])
    print_table(("layer", "batch", *(f"{name}, us" for name in sessions)), rows, left=1)
    print(f"onnxruntime {ort.__version__}, one thread, float32, medians; speed relative to dense in brackets")


def opened(n: int, m: int) -> dict[str, ort.InferenceSession]:
    with TemporaryDirectory() as folder:
        paths = {name: str(Path(folder) / f"{name}.onnx") for name in ("dense", "int8", "int4")}
        models.dense(n, m, Path(paths["dense"]))
        models.quantise_int8(Path(paths["dense"]), Path(paths["int8"]))
        models.quantise_blocks(Path(paths["dense"]), Path(paths["int4"]), bits=4)
        sessions = {name: session(path) for name, path in paths.items()}
    layer = ir.to_proto(layer_model(edgefc.Int3Linear(n, m, seed=1), n)).SerializeToString()
    return {**sessions, "int3": session(layer, "float32"), "int3, int8 input": session(layer, "int8")}


def session(model: str | bytes, activations: str | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if activations is not None:
        options.add_session_config_entry("edgefc.activations", activations)
        options.register_custom_ops_library(native.library_path())
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def medians_us(sessions: dict[str, ort.InferenceSession], n: int, m: int, batch: int, rounds: int) -> dict[str, float]:
    x = np.random.default_rng(0).standard_normal((batch, n)).astype(np.float32)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    runs = max(1, int(WORK / (n * m * batch)))
    for _ in range(rounds):
        for name, each in sessions.items():
            binding = each.io_binding()
            binding.bind_cpu_input(each.get_inputs()[0].name, x)
            binding.bind_output(each.get_outputs()[0].name)
            each.run_with_iobinding(binding)
            start = time.perf_counter()
            for _ in range(runs):
                each.run_with_iobinding(binding)
            times[name].append((time.perf_counter() - start) / runs * 1e6)
    return {name: statistics.median(each) for name, each in times.items()}


if __name__ == "__main__":
    sys.exit(main())
