"""The sizes of matrix products and convolutions: `count` products of (rows, inner) by (inner, columns) matrices."""

import math
from collections.abc import Sequence

from edgefc.devices.estimating.touched import Array

Product = tuple[int, int, int, int]  # count, rows, columns, inner

_MATRICES = {
    "MatMul": 1, "Gemm": 1, "FusedMatMul": 1, "FusedGemm": 1, "MatMulInteger": 1, "DynamicQuantizeMatMul": 1,
    "MatMulIntegerToFloat": 1, "QLinearMatMul": 3, "QGemm": 3,
}  # fmt: skip
_BLOCKS = {"MatMulNBits"}
_CONVOLUTIONS = {"Conv", "FusedConv", "ConvInteger", "QLinearConv"}
_TRANSPOSED = {"ConvTranspose"}
_RECURRENT = {"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"}

PRODUCTS = {*_MATRICES, *_BLOCKS, *_CONVOLUTIONS, *_TRANSPOSED, *_RECURRENT}


def product(op: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> Product:
    """The size of an operator of PRODUCTS."""
    shapes, out = [shape for _, shape in inputs], outputs[0][1]
    if op in _MATRICES:
        return _matrices(shapes[0], shapes[_MATRICES[op]] if len(shapes) > _MATRICES[op] else [], out)
    if op in _BLOCKS:
        return 1, math.prod(out[:-1]), out[-1], shapes[0][-1]
    if op in _RECURRENT:
        return _recurrent(shapes)
    return _transposed(shapes) if op in _TRANSPOSED else _convolution(shapes, out)


def _matrices(left: list[int], right: list[int], out: list[int]) -> Product:
    """A matrix product, possibly batched or transposed. If all batches share the right matrix, they are one product."""
    if len(left) < 2 or len(right) < 2:
        vector = left if len(left) < 2 else right
        inner = vector[-1] if vector else 1
        return 1, 1, math.prod(out), inner
    rows, columns = out[-2], out[-1]
    shared = [size for size in left[-2:] if size in right[-2:]] or left[-1:]  # either input may be transposed
    inner = next((size for size in shared if size * rows == left[-2] * left[-1]), shared[-1])
    if len(right) == 2 and len(left) > 2:
        rows = math.prod(out[:-1])
    return math.prod(out) // max(rows * columns, 1), rows, columns, inner


def _convolution(shapes: list[list[int]], out: list[int]) -> Product:
    """A convolution as the product of its windows with its kernel."""
    kernels = [shape for shape in shapes[1:] if len(shape) > 2]
    channels = out[1] if len(out) > 1 else 1
    inner = math.prod(kernels[0][1:]) if kernels else shapes[0][1] if len(shapes[0]) > 1 else 1
    return 1, math.prod(out) // max(channels, 1), channels, inner


def _transposed(shapes: list[list[int]]) -> Product:
    """A transposed convolution: every input position contributes to a window of the output."""
    image, kernel = shapes[0], shapes[1] if len(shapes) > 1 else [1, 1]
    return 1, math.prod(image) // max(kernel[0], 1), math.prod(kernel[1:]), kernel[0]


def _recurrent(shapes: list[list[int]]) -> Product:
    """A recurrent layer: every step multiplies its input and the previous state by the matrices of the gates."""
    x, w, r = (shapes[index] if index < len(shapes) and len(shapes[index]) == 3 else [0, 0, 0] for index in range(3))
    gates, hidden = max(r[1:]), min(r[1:])
    return x[0] * w[0], x[1], gates, x[2] + hidden
