"""How far two arrays are apart: one scale-free number, and the bounds it is held to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgefc.errors import ModelError, first_line

NMSE_BOUND = 1e-9
"""Largest normalised mean squared error that passes: |onnx - torch|^2 / |torch|^2, a relative error of 3e-5."""

NMSE_BOUND_DFT = 1e-6
"""The same for files with a DFT operator, which onnxruntime computes less accurately off powers of two."""

NMSE_BOUND_HALF = 1e-4
"""The same for files that compute in float16, and for float16 outputs: a relative error of 1e-2."""


@dataclass(frozen=True)
class Comparison:
    """One output of torch and of onnxruntime on one set of inputs.

    Attributes:
        name: the output's name in the file.
        rows: the size of the first axis of the inputs.
        inputs: the shape of each input.
        drawn: the inputs were drawn, and not given as the example.
        shape: the output's shape.
        nmse: |onnx - torch|^2 / |torch|^2 over the whole output; infinite where it cannot be computed.
        largest_difference: the largest |onnx - torch| of one entry.
        bound: the largest nmse that passes; 0 for outputs that are judged by count.
        part: the column, the row or the entry that is furthest off for what it is allowed; "" for the whole output.
        part_nmse: the nmse of that part.
        differing: how many entries differ, where the output is judged by count; else 0.
        not_finite: how many entries are NaN or infinite, the same in torch and in onnxruntime.
        noise_columns: how many columns are over the bound and no larger than what rounding does to them.
        failure: why the comparison does not hold, as the end of a sentence; None where it holds.
        differs: torch and onnxruntime gave different numbers. A comparison can also fail because it says nothing.
    """

    name: str
    rows: int
    inputs: tuple[tuple[int, ...], ...]
    drawn: bool
    shape: tuple[int, ...]
    nmse: float
    largest_difference: float
    bound: float
    excess: float = 0.0
    part: str = ""
    part_nmse: float = 0.0
    differing: int = 0
    not_finite: int = 0
    noise_columns: int = 0
    failure: str | None = None
    differs: bool = False

    @property
    def holds(self) -> bool:
        return self.failure is None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


def nmse(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """|actual - expected|^2 / |expected|^2 in float64; infinite where one is not finite and the other is.

    Equal arrays, empty ones and two that are all zero give 0.
    """
    if not same_not_finite(actual, expected):
        return float("inf")
    finite = np.isfinite(expected)
    a, b = actual[finite].astype(np.float64), expected[finite].astype(np.float64)
    scale = np.abs(b).max(initial=0.0) or 1.0  # no square is beyond float64
    error, power = np.square(a / scale - b / scale).sum(), np.square(b / scale).sum()
    if error == 0:
        return 0.0
    return float(error / power) if power else float("inf")


def same_not_finite(actual: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Both have one shape, and the same NaN and infinities at the same places."""
    if actual.shape != expected.shape:
        return False
    finite = np.isfinite(expected)
    return np.array_equal(finite, np.isfinite(actual)) and np.array_equal(
        actual[~finite], expected[~finite], equal_nan=expected.dtype.kind == "f"
    )


def largest_difference(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest |actual - expected| of one entry that is finite in both; 0 for arrays of different shapes."""
    if actual.shape != expected.shape:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    return float(gap[np.isfinite(gap)].max(initial=0.0))


def float_bound(file: Path) -> float:
    """The bound for float outputs: wider where the file computes in float16, or has a DFT operator.

    Raises:
        ModelError: a file that onnx-ir does not read, which checks more than onnxruntime.
    """
    try:
        model = ir.load(file)
    except Exception as error:  # protobuf and onnx-ir raise errors of many classes
        raise ModelError(f"{file.name} is no valid ONNX model: {first_line(error)}. Export it again.") from None
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    nodes = [node for graph in graphs for node in graph.all_nodes()]
    computed = [value for node in nodes if node.op_type not in ("Cast", "Constant") for value in node.outputs]
    if any(value.dtype == ir.DataType.FLOAT16 for value in (*model.graph.inputs, *computed)):
        return NMSE_BOUND_HALF
    return NMSE_BOUND_DFT if any(node.op_type == "DFT" for node in nodes) else NMSE_BOUND
