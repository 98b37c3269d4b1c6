"""Functions that the references of operators share, in numpy float64. They follow the definitions, not the bodies."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgefc import generator
from edgefc.export.building.described import activation_name, unsigned

Array = NDArray[np.float64]
Attributes = Mapping[str, Any]


def signs(seed: int, count: int, row: int = 0) -> Array:
    """Seeded signs, (count,): one row of the Rademacher matrix."""
    result: Array = generator.matrix(unsigned(seed), row + 1, count, "rademacher").astype(np.float64)[row]
    return result


def seeded(attributes: Attributes, rows: int, columns: int) -> Array:
    """The matrix of the attributes seed, bits and codebook: (rows, columns), entries of variance 1."""
    codes = generator.codes(unsigned(attributes["seed"]), rows, columns, attributes["bits"])
    result: Array = np.asarray(attributes["codebook"], np.float64)[codes]
    return result


def circulants(kernel: Array, rows: int, columns: int) -> Array:
    """Blocks of circulants, kernel (..., p, q, b), cut to (..., rows, columns): entry i, j is r[(i - j) mod b]."""
    b = kernel.shape[-1]
    i, j = np.indices((rows, columns))
    result: Array = kernel[..., i // b, j // b, (i - j) % b]
    return result


def kronecker_sum(left: Array, right: Array, inputs: int, outputs: int) -> Array:
    """The sum over terms of kron(L, R), transposed and cut: left (..., T, d1, u1), right (..., T, d2, u2)
    -> (..., outputs, inputs)."""
    d2, u2 = right.shape[-2:]
    u, i = np.indices((outputs, inputs))
    result: Array = (left[..., i // d2, u // u2] * right[..., i % d2, u % u2]).sum(-3)
    return result


def hadamard(length: int) -> Array:
    """Sylvester's matrix of +1 and -1; `length` is a power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < length:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def convolve(
    x: Array, weight: Array, strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int] = (1, 1)
) -> Array:
    """x (B, C, h, w), weight (m, C, kh, kw), pads (top, left, bottom, right) -> (B, m, h', w')."""
    top, left, bottom, right = pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = tuple((k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True))
    seen = sliding_window_view(padded, reach, axis=(2, 3))
    seen = seen[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    result: Array = np.einsum("bcyxij,mcij->bmyx", seen, weight)
    return result


def same_upper(sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> tuple[int, int, int, int]:
    """The pads of ONNX's SAME_UPPER: (top, left, bottom, right), an odd one at the end."""
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, kernel, strides, strict=True)]
    return total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2


def lstm(x: Array, w: Array, r: Array, bias: Array, h: Array, c: Array, *, hard: bool) -> tuple[Array, ...]:
    """x (S, B, n), w (4, u, n), r (4, u, u), bias (4, u), gates i, f, g, o, h and c (B, u) or (1, u)
    -> (S, B, u), (B, u), (B, u)."""
    h, c = (np.broadcast_to(state, (x.shape[1], w.shape[1])) for state in (h, c))
    outputs = []
    for part in x:
        z = np.einsum("gun,bn->gbu", w, part) + np.einsum("guv,bv->gbu", r, h) + bias[:, None, :]
        i, f, o = (np.clip(0.2 * z[k] + 0.5, 0, 1) if hard else _sigmoid(z[k]) for k in (0, 1, 3))
        c = f * c + i * np.tanh(z[2])
        h = o * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs) if outputs else np.zeros((0, *h.shape)), h, c


def activation(attributes: Attributes, x: Array) -> Array:
    """The element-wise function that the attribute activation names."""
    result: Array = _ACTIVATIONS[activation_name(attributes)](x)
    return result


def _sigmoid(x: Array) -> Array:
    result: Array = 0.5 * (1 + np.tanh(0.5 * x))
    return result


_erf = np.vectorize(math.erf, otypes=[np.float64])
_ACTIVATIONS: Mapping[str, Any] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "softplus": lambda x: np.logaddexp(x, 0),
    "sin": np.sin,
}
