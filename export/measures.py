"""How far two arrays are apart: one scale-free number, and the bounds it is held to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

NMSE_BOUND = 1e-9
"""Largest normalised mean squared error that passes: |onnx - torch|^2 / |torch|^2, a relative error of 3e-5."""

NMSE_BOUND_DFT = 1e-6
"""The same for files with a DFT operator, which onnxruntime computes less accurately off powers of two."""

NMSE_BOUND_HALF = 1e-4
"""The same for float16 outputs: a relative error of 1e-2."""


@dataclass(frozen=True)
class Comparison:
    """One output, or one layer, at one batch size."""

    name: str
    rows: int
    shape: tuple[int, ...]
    nmse: float
    largest_difference: float
    bound: float

    @property
    def holds(self) -> bool:
        return self.nmse <= self.bound


def nmse(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """|actual - expected|^2 / |expected|^2 in float64; infinite where one is not finite and the other is.

    Equal arrays, empty ones and two that are all zero give 0.
    """
    if actual.shape != expected.shape:
        return float("inf")
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(finite, np.isfinite(a)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    error, power = np.square(a[finite] - b[finite]).sum(), np.square(b[finite]).sum()
    if error == 0:
        return 0.0
    return float(error / power) if power else float("inf")


def float_bound(file: Path) -> float:
    """The bound for float outputs: wider where the file has a DFT operator."""
    model = ir.load(file)
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    has_dft = any(node.op_type == "DFT" for graph in graphs for node in graph.all_nodes())
    return NMSE_BOUND_DFT if has_dft else NMSE_BOUND


def measure(name: str, actual: NDArray[Any], expected: NDArray[Any], rows: int, bound_for_floats: float) -> Comparison:
    bound = 0.0
    if expected.dtype == np.float16:
        bound = NMSE_BOUND_HALF
    elif np.issubdtype(expected.dtype, np.floating):
        bound = bound_for_floats
    gap = 0.0
    if actual.shape == expected.shape and actual.size:
        with np.errstate(invalid="ignore"):
            gap = float(np.nanmax(np.abs(actual.astype(np.float64) - expected.astype(np.float64)), initial=0.0))
    return Comparison(name, rows, expected.shape, nmse(actual, expected), gap, bound)
