"""Sums of Kronecker products, which every bilinear layer is: x @ (sum_t kron(L_t, R_t)) = sum_t vec(L_t^T X R_t).

From the authors' code (edgefc/layers/factors.py names it): one term, x and y as matrices row by row. Sums of several
terms and fits to trained matrices are ours; the fit is Van Loan & Pitsianis, "Approximation with Kronecker Products",
1993: with the matrix cut into d2 x u2 blocks, one block a row, the nearest sum is the nearest matrix of low rank.

Letters: n = d1 d2 inputs (fewer when padded), m = u1 u2 outputs (fewer when cut), T terms.

    left    (T, d1, u1)     right   (T, d2, u2)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from edgefc.layers.facts import left_first, left_first_cost, right_first_cost
from edgefc.layers.symbolic import check_finite

_SWEEPS, _SETTLED = 200, 1e-7  # over free entries: at most so many sweeps, fewer once the gain is less than this

Pair = tuple[int, int]


def multiply_adds(d: Sequence[int], u: Sequence[int], terms: int) -> int:
    """Of one row, in the cheaper order: T u1 d2 (d1 + u2) left first, T u2 d1 (d2 + u1) right first."""
    return terms * min(left_first_cost(d, u), right_first_cost(d, u))


def apply(x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """sum_t vec(L_t^T X R_t), x (..., d1 d2) -> (..., u1 u2), by two matrix products whatever the number of terms."""
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
    """The first n rows and m columns of sum_t kron(L_t, R_t): (n, m)."""
    total = torch.kron(left[0], right[0])
    for t in range(1, len(left)):
        total = total + torch.kron(left[t], right[t])
    return total[:n, :m]


@torch.no_grad()
def nearest(matrix: Tensor, d: Pair, u: Pair, terms: int) -> tuple[Tensor, Tensor]:
    """left and right, float64, whose sum of Kronecker products is near to `matrix` (n, m) in the Frobenius norm.

    The nearest where n = d1 d2 and m = u1 u2. Otherwise the rows and columns beyond the matrix are free: they start as
    zeros, and sweeps fill them with what the factors make of them and fit again, which never increases the distance.
    The result is then a good approximation, not proven to be the nearest.
    """
    n, m = matrix.shape
    check_finite(matrix)
    padding = (0, u[0] * u[1] - m, 0, d[0] * d[1] - n)
    blocks = _rearranged(torch.nn.functional.pad(matrix.double(), padding), d, u)
    terms_used = min(terms, *blocks.shape)
    across = _leading_columns(blocks, terms_used)  # (d2 u2, T)
    down = blocks @ across
    if any(padding):
        used = torch.nn.functional.pad(torch.ones_like(matrix, dtype=torch.bool), padding)
        down, across = _fill(blocks, _rearranged(used, d, u), down, across)
    left, right = (
        torch.zeros(terms, a * b, dtype=torch.float64, device=matrix.device) for a, b in zip(d, u, strict=True)
    )
    size = down.norm(dim=0)
    balance = torch.where(size > 0, (size / across.norm(dim=0)).sqrt(), 1.0)  # both factors of the same norm
    left[:terms_used], right[:terms_used] = (down / balance).T, (across * balance).T
    return left.reshape(terms, d[0], u[0]), right.reshape(terms, d[1], u[1])


def _rearranged(matrix: Tensor, d: Pair, u: Pair) -> Tensor:
    """(d1 d2, u1 u2) -> (d1 u1, d2 u2): a block a row, so that kron(L, R) becomes vec(L) vec(R)^T."""
    return matrix.reshape(d[0], d[1], u[0], u[1]).transpose(1, 2).reshape(d[0] * u[0], d[1] * u[1])


def _leading_columns(blocks: Tensor, count: int) -> Tensor:
    """The first right singular vectors, as columns; by the smaller Gram matrix, which is faster than an SVD."""
    tall = blocks.shape[0] >= blocks.shape[1]
    gram = blocks.T @ blocks if tall else blocks @ blocks.T
    vectors: Tensor = torch.linalg.eigh(gram).eigenvectors[:, -count:].flip(1)  # eigenvalues come in ascending order
    return vectors if tall else torch.linalg.qr(blocks.T @ vectors).Q


def _fill(blocks: Tensor, used: Tensor, down: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """Alternate between filling the entries that are not used and one step of least squares for each factor."""
    distance = ((blocks - down @ across.T) * used).norm()
    for _ in range(_SWEEPS):
        filled = torch.where(used, blocks, down @ across.T)
        left = torch.linalg.qr(filled @ across).Q
        fitted = filled.T @ left
        closer = ((blocks - left @ fitted.T) * used).norm()
        if closer >= distance:
            break
        gain, distance, down, across = distance - closer, closer, left, fitted
        if gain <= _SETTLED * distance:
            break
    return down, across
