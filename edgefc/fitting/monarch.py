"""Monarch matrices: two block-diagonal factors with a fixed permutation between them.

The layer is MonarchLinear. The inputs are cut into b blocks of p, the outputs into b blocks of o, padded at the end.
Block j of the inputs has w middle values. Middle value t of block j goes to place t b + j, and block i of the outputs
reads the places from i w to (i + 1) w - 1. Block (i, j) of the matrix is therefore any matrix of the rank r_ij, the
number of middle values that lead from j to i: w / b, rounded up or down.

The plain fit takes the truncated SVD of every block. The weighted fit improves one column of blocks at a time, with
the others fixed. Without a limit of the rank, the best column is X = W'_j + (D C)_j C_jj^-1. The best block of rank r
is then U U^T X_i with the r leading left singular vectors U of X_i S, S S^T = C_jj.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgefc.errors import ShapeError
from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.moments import Moments
from edgefc.fitting.problem import Problem, problem
from edgefc.fitting.registry import serves
from edgefc.fitting.truncated import balanced, leading
from edgefc.progress import steps

Column = list[tuple[Array, Array]]
"""The factors of the blocks (i, j) of one j: down (outputs of i, r_ij) and across (r_ij, inputs of j)."""

_SWEEPS = 30
_SETTLED = 1e-4  # the weighted fit stops if a sweep reduces the cost by less than this fraction


@dataclass(frozen=True, kw_only=True, eq=False)
class MonarchFit(Fitted):
    """The parameters of MonarchLinear.

    Attributes:
        first    (b, w, p) float64
        second   (b, o, w) float64
    """

    first: Array
    second: Array
    in_features: int
    out_features: int

    def dense(self) -> Array:
        (b, w, p), o = self.first.shape, self.second.shape[1]
        matrix = np.zeros((b * o, b * p))
        for i, j, middle, places in routes(b, w):
            block = self.second[i][:, places] @ self.first[j][middle]
            matrix[i * o : (i + 1) * o, j * p : (j + 1) * p] = block
        return matrix[: self.out_features, : self.in_features]

    @property
    def stored_bits(self) -> int:
        return 32 * (self.first.size + self.second.size)


def fit_monarch(
    weight: ArrayLike, bias: ArrayLike | None, moments: Moments | None, blocks: int = 4, width: int | None = None
) -> MonarchFit:
    """Returns a Monarch layer with a low tr((W - W') C (W - W')^T). Without moments: the lowest.

    width=None is min(p, o). With b min(p, o), blocks have their full rank.

    Raises:
        ShapeError: the blocks are not between 1 and min(m, n), or the width not between 1 and
            b min(p, o).
    """
    given = problem(weight, bias, moments)
    m, n = given.weight.shape
    if not 1 <= blocks <= min(m, n):
        raise ShapeError(f"a weight {(m, n)} needs from 1 to {min(m, n)} blocks, got {blocks}.")
    most = min(-(-n // blocks), -(-m // blocks))
    w = most if width is None else width
    if not 1 <= w <= blocks * most:
        raise ShapeError(f"{blocks} blocks of a weight {(m, n)} need a width from 1 to {blocks * most}, got {width}.")
    grid = _Grid(m, n, blocks, w)
    factors = [grid.column(given.weight[:, grid.inputs(j)], None, j) for j in range(blocks)]
    plain = grid.fit(factors)
    return given.finished(plain, lambda product: grid.fit(_improved(given, grid, factors, product)))


@serves("Monarch")
def _fit(configuration: Any, weight: Array, bias: Array | None, moments: Moments | None, seed: int) -> MonarchFit:
    return fit_monarch(weight, bias, moments, configuration.blocks)


def routes(blocks: int, width: int) -> Iterator[tuple[int, int, slice, slice]]:
    """Yields i, j, the middle values of input block j that lead to output block i, and their places there."""
    for i in range(blocks):
        for j in range(blocks):
            start, stop = (-((j - place * width) // blocks) for place in (i, i + 1))
            first = start * blocks + j - i * width
            yield i, j, slice(start, stop), slice(first, first + (stop - start) * blocks, blocks)


@dataclass(frozen=True)
class _Grid:
    """The sizes of a fit: m outputs and n inputs in b blocks each, with w middle values per block."""

    m: int
    n: int
    b: int
    w: int

    @property
    def o(self) -> int:
        return -(-self.m // self.b)

    @property
    def p(self) -> int:
        return -(-self.n // self.b)

    def inputs(self, j: int) -> slice:
        """The inputs of block j. The last blocks can have fewer than p, or none."""
        return slice(min(j * self.p, self.n), min((j + 1) * self.p, self.n))

    def outputs(self, i: int) -> slice:
        return slice(min(i * self.o, self.m), min((i + 1) * self.o, self.m))

    def column(self, target: Array, root: Array | None, j: int) -> Column:
        """Returns the factors of the blocks (i, j) nearest to target (m, inputs of j), weighted by root root^T."""
        ranks = [middle.stop - middle.start for _, other, middle, _ in routes(self.b, self.w) if other == j]
        return [nearest_block(target[self.outputs(i)], root, rank) for i, rank in enumerate(ranks)]

    def expand(self, column: Column) -> Array:
        """Returns the matrix (m, inputs of j) of these factors."""
        return np.concatenate([down @ across for down, across in column])

    def fit(self, columns: list[Column]) -> MonarchFit:
        first, second = np.zeros((self.b, self.w, self.p)), np.zeros((self.b, self.o, self.w))
        for i, j, middle, places in routes(self.b, self.w):
            down, across = columns[j][i]
            first[j, middle, : across.shape[1]] = across
            second[i, : len(down), places] = down
        return MonarchFit(first=first, second=second, in_features=self.n, out_features=self.m)


def nearest_block(target: Array, root: Array | None, rank: int) -> tuple[Array, Array]:
    """Returns down (o, rank) and across (rank, p) with the least tr((target - down across) S S^T (...)^T), S = root."""
    o, p = target.shape
    down, across = np.zeros((o, rank)), np.zeros((rank, p))
    used = min(rank, o, p)
    if used:
        left = leading((target if root is None else target @ root).T, used)
        down[:, :used], right = balanced(left, target.T @ left)
        across[:used] = right.T
    return down, across


def _improved(given: Problem, grid: _Grid, columns: list[Column], product: Array) -> list[Column]:
    """Returns better factors than `columns`, whose error is D, from product = D C."""
    covariance = given.square()
    slices = [grid.inputs(j) for j in range(grid.b)]
    roots = [np.asarray(np.linalg.cholesky(covariance[each, each]), np.float64) for each in slices]
    inverses = [np.asarray(np.linalg.inv(covariance[each, each]), np.float64) for each in slices]
    columns, matrices = list(columns), [grid.expand(column) for column in columns]
    cost = given.cost(np.concatenate(matrices, 1))
    for _ in steps(range(_SWEEPS), "fitting Monarch factors"):
        for j, each in enumerate(slices):
            best = matrices[j] + product[:, each] @ inverses[j]
            columns[j] = grid.column(best, roots[j], j)
            before, matrices[j] = matrices[j], grid.expand(columns[j])
            product = product - (matrices[j] - before) @ covariance[each]
        before_sweep, cost = cost, float(np.vdot(given.weight - np.concatenate(matrices, 1), product))
        if cost >= before_sweep * (1 - _SETTLED):
            break
    return columns
