"""Sums of Kronecker products: W' is the transpose of sum_t kron(L_t, R_t), cut to n rows and m columns.

The layer is BilinearLinear, with input i d2 + j and output a u2 + c:

    W'[a u2 + c, i d2 + j] = sum_t L[t, i, a] R[t, j, c]        left L (T, d1, u1), right R (T, d2, u2)

The plain fit follows Van Loan and Pitsianis, "Approximation with Kronecker Products", 1993: with one block of W per
row, the nearest sum is the nearest low-rank matrix. The weighted fit starts there and alternates. With R fixed, the
cost is a quadratic function of L, whose systems for the columns a of L share one matrix of T d1 rows:

    H[t i, t' i'] = sum_jj' K[t j, t' j'] C[i j, i' j']         K = R R^T over the columns c in use

Outputs beyond m are free. Only the last column of L in use has fewer columns c than the others, and an H of its own.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgefc.errors import ShapeError
from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.free_entries import nearest_where_used
from edgefc.fitting.moments import Moments
from edgefc.fitting.problem import Problem, problem
from edgefc.fitting.registry import serves
from edgefc.fitting.truncated import balanced, nearest_low_rank
from edgefc.progress import steps

Pair = tuple[int, int]

_SWEEPS = 60
_SETTLED = 1e-4  # the weighted fit stops if a sweep reduces the cost by less than this fraction
_DAMPING = 1e-12  # relative to the mean diagonal of H, which is singular for terms that depend on each other


LONGEST = 4
"""The maximum of d2 / d1. Then d1 + d2 is at most 25 % above its minimum, 2 sqrt(d). The limit keeps the authors'
10 = 2 x 5 and 27 = 3 x 9; 7 becomes 8 = 2 x 4, and 1009 becomes 1012 = 23 x 44."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KroneckerFit(Fitted):
    """The parameters of BilinearLinear.

    Attributes:
        left    (T, d1, u1) float64
        right   (T, d2, u2) float64
    """

    left: Array
    right: Array
    in_features: int
    out_features: int

    def dense(self) -> Array:
        return expand(self.left, self.right)[: self.in_features, : self.out_features].T

    @property
    def stored_bits(self) -> int:
        return 32 * (self.left.size + self.right.size)


def fit_kronecker(
    weight: ArrayLike,
    bias: ArrayLike | None,
    moments: Moments | None,
    terms: int = 1,
    in_factors: Pair | None = None,
    out_factors: Pair | None = None,
) -> KroneckerFit:
    """Returns a sum of Kronecker products with a low tr((W - W') C (W - W')^T).

    The default factors are factors(n) and factors(m). Without moments and with n = d1 d2, m = u1 u2 it is the lowest.
    Otherwise it is a point that alternating no longer improves.

    Raises:
        ShapeError: factors whose product is below the size, or fewer than one term.
    """
    given = problem(weight, bias, moments)
    m, n = given.weight.shape
    d, u = in_factors or factors(n), out_factors or factors(m)
    if d[0] * d[1] < n or u[0] * u[1] < m or terms < 1:
        raise ShapeError(
            f"a weight {(m, n)} needs factors of at least {n} inputs and {m} outputs and at least one term, "
            f"got {d}, {u} and {terms}."
        )
    left, right = nearest(given.weight.T, d, u, terms)
    plain = KroneckerFit(left=left, right=right, in_features=n, out_features=m)

    def weighted(_: Array) -> KroneckerFit:
        left, right = _Alternation(given, plain.left, plain.right).run()
        return replace(plain, left=left, right=right)

    return given.finished(plain, weighted)


@serves("Bilinear")
def _fit(configuration: Any, weight: Array, bias: Array | None, moments: Moments | None, seed: int) -> KroneckerFit:
    return fit_kronecker(weight, bias, moments, configuration.terms)


def factors(size: int) -> tuple[int, int]:
    """Returns (d1, d2) with d1 <= d2 <= LONGEST * d1 and the smallest product that is at least `size`."""
    while True:
        first = next(d for d in range(math.isqrt(size), 0, -1) if size % d == 0)
        if size // first <= LONGEST * first:
            return first, size // first
        size += 1


def expand(left: Array, right: Array) -> Array:
    """Returns sum_t kron(L_t, R_t), (d1 d2, u1 u2)."""
    (terms, d1, u1), (_, d2, u2) = left.shape, right.shape
    blocks = left.reshape(terms, -1).T @ right.reshape(terms, -1)
    return blocks.reshape(d1, u1, d2, u2).transpose(0, 2, 1, 3).reshape(d1 * d2, u1 * u2)


def nearest(matrix: Array, d: Pair, u: Pair, terms: int) -> tuple[Array, Array]:
    """Returns left and right whose sum of Kronecker products approximates `matrix` (n, m) in the Frobenius norm.

    If n = d1 d2 and m = u1 u2, the result is the optimum, to the precision of truncated.py. Otherwise the entries
    beyond the matrix are free. The fit starts with zeros there and only reduces the distance. The result is a good
    approximation, but not proven to be the optimum.
    """
    blocks = _rearranged(_padded(matrix, d, u), d, u)
    down, across = nearest_low_rank(blocks, min(terms, *blocks.shape))
    if matrix.shape != (d[0] * d[1], u[0] * u[1]):
        used = _rearranged(_padded(np.ones_like(matrix), d, u), d, u)
        down, across = nearest_where_used(blocks, used, down, across)
    left, right = (
        np.pad(part.T, ((0, terms - part.shape[1]), (0, 0))).reshape(terms, d[i], u[i])
        for i, part in enumerate((down, across))
    )
    return left, right


def _padded(matrix: Array, d: Pair, u: Pair) -> Array:
    n, m = matrix.shape
    return np.pad(matrix, ((0, d[0] * d[1] - n), (0, u[0] * u[1] - m)))


def _rearranged(matrix: Array, d: Pair, u: Pair) -> Array:
    """Rearranges (d1 d2, u1 u2) to (d1 u1, d2 u2), one block per row, so that kron(L, R) becomes vec(L) vec(R)^T."""
    return matrix.reshape(d[0], d[1], u[0], u[1]).transpose(0, 2, 1, 3).reshape(d[0] * u[0], d[1] * u[1])


class _Alternation:
    """Alternating least squares over left and right. Each half-step is exact."""

    def __init__(self, given: Problem, left: Array, right: Array) -> None:
        self.left, self.right = left, right
        (_, d1, u1), (_, d2, u2) = left.shape, right.shape
        m, n = given.weight.shape
        square = np.zeros((d1 * d2, d1 * d2))
        square[:n, :n] = given.square()
        self.square = square.reshape(d1, d2, d1, d2).transpose(1, 3, 0, 2).reshape(d2 * d2, d1 * d1)
        product = np.zeros((u1 * u2, d1 * d2))
        product[:m, :n] = given.weigh(given.weight)
        self.product = product.reshape(u1, u2, d1, d2)
        self.size = float(np.vdot(given.weight, product[:m, :n]))
        full, rest = divmod(m, u2)
        whole, every = slice(0, full), slice(None)
        cut, some = slice(full, full + 1), slice(0, rest)
        self.for_left = [(whole, every)] + [(cut, some)] * bool(rest)  # columns of L, and the columns of R in use
        self.for_right = [(some, slice(0, full + 1)), (slice(rest, u2), whole)]

    def run(self) -> tuple[Array, Array]:
        """Alternates until the cost no longer falls. Returns left and right, with equal norms in each term."""
        cost = np.inf
        transposed = self.product.transpose(1, 0, 3, 2)
        for _ in steps(range(_SWEEPS), "fitting Kronecker factors"):
            self.left, _ = _half_step(self.left, self.right, self.square, self.product, self.for_left)
            self.right, gain = _half_step(self.right, self.left, self.square.T, transposed, self.for_right)
            before, cost = cost, self.size - gain
            if cost >= before * (1 - _SETTLED):
                break
        terms = len(self.left)
        down, across = balanced(self.left.reshape(terms, -1).T, self.right.reshape(terms, -1).T)
        return down.T.reshape(self.left.shape), across.T.reshape(self.right.shape)


def _half_step(
    moving: Array, fixed: Array, square: Array, product: Array, groups: list[tuple[slice, slice]]
) -> tuple[Array, float]:
    """Returns the best `moving` (T, d, u) for `fixed` (T, e, v), and by how much the cost is below that of W' = 0.

    Args:
        square      C as (e e, d d)
        product     W C as (u, v, d, e)
        groups      columns of `moving`, each with the columns of `fixed` that meet them in outputs in use
    """
    (terms, d, _), e = moving.shape, fixed.shape[1]
    moved, gain = np.zeros_like(moving), 0.0
    for columns, others in groups:
        if moving[..., columns].size == 0 or fixed[..., others].size == 0:
            continue
        rows = np.ascontiguousarray(fixed[..., others]).reshape(terms * e, -1)
        kernel = (rows @ rows.T).reshape(terms, e, terms, e).transpose(0, 2, 1, 3).reshape(terms**2, e * e)
        system = (kernel @ square).reshape(terms, terms, d, d).transpose(0, 2, 1, 3).reshape(terms * d, terms * d)
        right = np.tensordot(fixed[..., others], product[columns, others], ((1, 2), (3, 1)))  # (T, u, d)
        right = right.transpose(0, 2, 1).reshape(terms * d, -1)
        start = moving[..., columns].reshape(terms * d, -1)
        left_over = right - system @ start
        damped = system.copy()
        damped.flat[:: len(damped) + 1] += _DAMPING * np.trace(system) / len(system) + 1e-300
        best = start + np.linalg.solve(damped, left_over)
        gain += float(np.vdot(best, 2 * right - system @ best))
        moved[..., columns] = best.reshape(terms, d, -1)
    return moved, gain
