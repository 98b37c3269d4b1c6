"""Every layer with stored weights as a file, with codes of the full range, its inputs and float64's answer.

Other onnxruntimes run the files: the browser's, the one for arm64 and the oldest one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import edgefc
from edgefc.export import export
from tests.layers.int3.test_linear import drawn_fit
from tests.layers.quantized.test_linear import fit_of

N, M = 320, 67
EXACT, ROUNDED = 1e-11, 1e-3
"""The largest nmse against float64: of float32, and of inputs rounded to int8."""


@dataclass(frozen=True)
class Stored:
    """A model, with its largest nmse. `bodies` as in export()."""

    name: str
    model: nn.Module
    bound: float = EXACT
    bodies: tuple[tuple[str, str], ...] = ()


def cases() -> Iterator[Stored]:
    torch.manual_seed(0)
    for bits, group in ((8, 128), (4, 32), (2, 32)):
        layer = edgefc.QuantizedLinear.from_fit(fit_of(N, M, bits, group), nn.Linear(N, M))
        yield Stored(f"{bits} bits", layer, ROUNDED)
        yield Stored(f"{bits} bits, dequantized", layer, bodies=(("QuantizedLinear", "dequantized"),))
    yield Stored(
        "4 bits, rotated", edgefc.QuantizedLinear.from_fit(fit_of(N, M, 4, 32, seed=7), nn.Linear(N, M)), ROUNDED
    )
    corrected = edgefc.CorrectedLinear.from_fit(fit_of(N, M, 2, 32, rank=16), nn.Linear(N, M))
    yield Stored("2 bits, corrected", corrected, ROUNDED)
    for seed in (None, 7):
        layer = edgefc.Int3Linear.from_fit(drawn_fit(N, M, 128, seed), nn.Linear(N, M))
        for body in ("resident", "streaming"):
            turned = "" if seed is None else ", rotated"
            yield Stored(f"3 bits, {body}{turned}", layer, bodies=(("Int3Linear", body),))
    yield Stored("float16", edgefc.HalfLinear.from_linear(nn.Linear(N, M)))
    yield Stored("low rank", edgefc.LowRankLinear(N, M, rank=12))
    yield Stored("monarch", edgefc.MonarchLinear(N, M, blocks=4))
    for bits in (8, 4, 2):
        yield Stored(f"table, {bits} bits", edgefc.QuantizedEmbedding(N, M, bits=bits))


def inputs(model: nn.Module) -> torch.Tensor:
    """Products as large as possible, and random ones. For a table, every row."""
    if hasattr(model, "num_embeddings"):
        return torch.arange(N).reshape(5, -1)
    x = torch.cat([torch.ones(1, N), torch.tensor([1.0, -1.0]).repeat(1, N // 2), torch.randn(3, N)])
    return x.float()


@torch.no_grad()
def files(folder: Path) -> Iterator[tuple[Stored, Path, NDArray[Any], NDArray[np.float64]]]:
    """Each case with its file, inputs and answer."""
    for number, case in enumerate(cases()):
        x, path = inputs(case.model), folder / f"{number}.onnx"
        export(case.model.eval(), x, path, verify=False, bodies=dict(case.bodies))
        yield case, path, x.numpy(), answer(case.model, x)


def answer(model: Any, x: torch.Tensor) -> NDArray[np.float64]:
    """From the dense matrix in float64."""
    matrix = model.double().dense().numpy()
    found = matrix[x] if hasattr(model, "num_embeddings") else x.double().numpy() @ matrix.T
    bias = getattr(model, "bias", None)
    model.float()
    return np.asarray(found if bias is None else found + bias.double().numpy())
