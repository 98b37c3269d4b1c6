"""Measures the difference of two arrays by one scale-free number, and defines its bounds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgefc.errors import ModelError, first_line

_INT8_INPUTS = 4
"""The accuracy_level of MatMulNBits that rounds inputs to int8."""

NMSE_BOUND = 1e-9
"""The largest normalised mean squared error that passes: |onnx - torch|^2 / |torch|^2, a relative error of 3e-5."""

NMSE_BOUND_DFT = 1e-6
"""The bound for files with a DFT operator, which onnxruntime computes less accurately at other lengths than powers of
two."""

NMSE_BOUND_HALF = 1e-4
"""The bound for files that compute in float16, and for float16 outputs: a relative error of 1e-2."""

NMSE_BOUND_INT8 = 1e-2
"""The bound for files with MatMulNBits nodes that round their inputs to int8: a relative error of 0.1. One such node
has about 4e-5."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of one output of torch and onnxruntime on one set of inputs.

    Attributes:
        name: the name of the output in the file.
        rows: the size of the first axis of the inputs.
        inputs: the shape of each input.
        drawn: whether the inputs were random. Otherwise they are the example.
        shape: the shape of the output.
        nmse: |onnx - torch|^2 / |torch|^2 over the whole output; infinite if it cannot be computed.
        largest_difference: the largest |onnx - torch| of one entry.
        bound: the largest nmse that passes; 0 for outputs that are compared by count.
        excess: the error of the worst part relative to the largest allowed error; above 1 the comparison fails.
        part: the column or row with the largest excess; "" for the whole output.
        part_nmse: the nmse of that part.
        differing: the number of entries that differ if the output is compared by count, otherwise 0.
        not_finite: the number of entries that are NaN or infinite, equal in torch and onnxruntime.
        noise_columns: the number of columns over the bound whose values are no larger than their rounding errors.
        failure: why the comparison failed, as the end of a sentence, or None if it passed.
        differs: whether torch and onnxruntime gave different values. A comparison also fails if too little can be
            compared.
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
    """Returns |actual - expected|^2 / |expected|^2 in float64, or infinity if values that are not finite differ.

    Returns 0 for equal arrays, empty arrays and two arrays of zeros.
    """
    if not same_not_finite(actual, expected):
        return float("inf")
    finite = np.isfinite(expected)
    a, b = actual[finite].astype(np.float64), expected[finite].astype(np.float64)
    scale = np.abs(b).max(initial=0.0) or 1.0  # avoids overflow of the squares
    error, power = np.square(a / scale - b / scale).sum(), np.square(b / scale).sum()
    if error == 0:
        return 0.0
    return float(error / power) if power else float("inf")


def same_not_finite(actual: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Whether both have the same shape, and the same NaN and infinities at the same positions."""
    if actual.shape != expected.shape:
        return False
    finite = np.isfinite(expected)
    return np.array_equal(finite, np.isfinite(actual)) and np.array_equal(
        actual[~finite], expected[~finite], equal_nan=expected.dtype.kind == "f"
    )


def largest_difference(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Returns the largest |actual - expected| of entries that are finite in both, or 0 for different shapes."""
    if actual.shape != expected.shape:
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    return float(gap[np.isfinite(gap)].max(initial=0.0))


def float_bound(file: Path) -> float:
    """Returns the bound for float outputs. It is larger if the file computes in int8 or float16 or has a DFT operator.

    Raises:
        ModelError: as load().
    """
    model = load(file)
    nodes = all_nodes(model)
    computed = [value for node in nodes if node.op_type not in ("Cast", "Constant") for value in node.outputs]
    if any(map(rounds_inputs, nodes)):
        return NMSE_BOUND_INT8
    if any(value.dtype == ir.DataType.FLOAT16 for value in (*model.graph.inputs, *computed)):
        return NMSE_BOUND_HALF
    return NMSE_BOUND_DFT if any(node.op_type == "DFT" for node in nodes) else NMSE_BOUND


def load(file: Path) -> ir.Model:
    """Reads a file.

    Raises:
        ModelError: onnx-ir cannot read it. It checks more than onnxruntime.
    """
    try:
        return ir.load(file)
    except Exception as error:  # protobuf and onnx-ir raise errors of many classes
        raise ModelError(f"{file.name} is not a valid ONNX model: {first_line(error)}. Export it again.") from None


def all_nodes(model: ir.Model) -> list[ir.Node]:
    """Returns the nodes of the graph, its subgraphs and the functions."""
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    return [node for graph in graphs for node in graph.all_nodes()]


def rounds_inputs(node: ir.Node) -> bool:
    """Whether a node is a MatMulNBits that rounds its inputs to int8."""
    level = node.attributes.get("accuracy_level") if node.op_type == "MatMulNBits" else None
    return level is not None and level.value == _INT8_INPUTS
