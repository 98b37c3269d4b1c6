"""Latency of quantised layers against a dense layer, in onnxruntime: python -m tests.bench.quantized [threads]

Medians in microseconds. The layers take turns, so that other load on the machine affects all of them alike.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from edgefc import HalfLinear, QuantizedLinear, temporary
from edgefc.export import export
from edgefc.runtime import Session
from edgefc.screen import out

SIZES = ((384, 1536), (768, 3072))
ROWS = (1, 24)
ROUNDS = 400
LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "dense": nn.Linear,
    "float16": HalfLinear,
    "8 bits, groups of 128": lambda n, m: QuantizedLinear(n, m, bits=8, group=128),
    "4 bits, groups of 32": lambda n, m: QuantizedLinear(n, m, bits=4, group=32),
    "4 bits, groups of 32, rotated": lambda n, m: QuantizedLinear(n, m, bits=4, group=32, seed=1),
    "4 bits, groups of 128": lambda n, m: QuantizedLinear(n, m, bits=4, group=128),
    "2 bits, groups of 32": lambda n, m: QuantizedLinear(n, m, bits=2, group=32),
    "2 bits, groups of 32, rotated": lambda n, m: QuantizedLinear(n, m, bits=2, group=32, seed=1),
}


def main(threads: int) -> None:
    out(f"onnxruntime {onnxruntime.__version__}, threads: {threads}")
    with temporary.folder("edgefc-bench-") as folder:
        for n, m in SIZES:
            sessions = {name: _session(make(n, m), n, folder / "layer.onnx", threads) for name, make in LAYERS.items()}
            for rows in ROWS:
                x = np.random.default_rng(0).standard_normal((rows, n), np.float32)
                taken: dict[str, list[float]] = {name: [] for name in sessions}
                for _ in range(ROUNDS):
                    for name, session in sessions.items():
                        start = time.perf_counter()
                        session.run({"x": x})
                        taken[name].append(time.perf_counter() - start)
                for name, times in taken.items():
                    out(f"{n} -> {m}, {rows:2} rows: {1e6 * statistics.median(times):7.0f} us  {name}")


def _session(layer: nn.Module, n: int, path: Path, threads: int) -> Session:
    export(_Named(layer).eval(), torch.zeros(2, n), path, verify=False)
    return Session(path, threads=threads)


class _Named(nn.Module):
    """Gives the input the name x."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x)
        return y


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
