"""Sums of Kronecker products, used by every bilinear layer: x @ (sum_t kron(L_t, R_t)) = sum_t vec(L_t^T X R_t).

From the authors' code (see factors.py): one term, x and y reshaped to matrices row by row. Our additions: sums of
several terms, and fits to trained matrices (edgefc/fitting/kronecker.py).

Symbols: n = d1 d2 inputs (fewer when padded), m = u1 u2 outputs (fewer when cut), T terms.

    left    (T, d1, u1)     right   (T, d2, u2)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgefc.fitting import kronecker as fitting
from edgefc.layers.common.facts import left_first, left_first_cost, right_first_cost
from edgefc.layers.common.fits import array, tensor
from edgefc.layers.common.onnx_node import check_finite

Pair = tuple[int, int]


def multiply_adds(d: Sequence[int], u: Sequence[int], terms: int) -> int:
    """Returns the multiply-adds per row in the cheaper order: T u1 d2 (d1 + u2) with the left product first, or
    T u2 d1 (d2 + u1) with the right product first.
    """
    return terms * min(left_first_cost(d, u), right_first_cost(d, u))


def apply(x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Returns sum_t vec(L_t^T X R_t), x (..., d1 d2) -> (..., u1 u2). Two matrix products compute all terms."""
    (terms, d1, u1), (_, d2, u2) = left.shape, right.shape
    x = x.reshape(*x.shape[:-1], d1, d2)
    left, right = left.transpose(0, 1), right.transpose(0, 1)  # (d, T, u)
    if left_first((d1, d2), (u1, u2)):
        y = x.mT @ left.reshape(d1, terms * u1)  # (..., d2, T u1)
        y = y.reshape(*y.shape[:-2], d2 * terms, u1).mT @ right.reshape(d2 * terms, u2)
    else:
        y = x @ right.reshape(d2, terms * u2)  # (..., d1, T u2)
        y = left.reshape(d1 * terms, u1).mT @ y.reshape(*y.shape[:-2], d1 * terms, u2)
    return y.flatten(-2)


def expand(left: Tensor, right: Tensor, n: int, m: int) -> Tensor:
    """Returns the first n rows and m columns of sum_t kron(L_t, R_t): (n, m)."""
    total = torch.kron(left[0], right[0])
    for t in range(1, len(left)):
        total = total + torch.kron(left[t], right[t])
    return total[:n, :m]


def nearest(matrix: Tensor, d: Pair, u: Pair, terms: int) -> tuple[Tensor, Tensor]:
    """Returns left and right, float64, whose sum of Kronecker products approximates `matrix` (n, m) in the Frobenius
    norm. edgefc.fitting.kronecker computes them.

    If n = d1 d2 and m = u1 u2, the result is the optimum, to the precision of a truncated SVD. Otherwise the entries
    beyond the matrix are free, and the result is a good approximation, but not proven to be the optimum.

    Raises:
        UsageError: NaN or infinite values.
    """
    check_finite(matrix)
    left, right = fitting.nearest(array(matrix), d, u, terms)
    return tensor(left, matrix.device), tensor(right, matrix.device)
