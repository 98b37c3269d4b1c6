"""Block-circulant matrices with seeded signs: the exact weighted fit, with FFTs.

The layer is CirculantLinear, cut to m rows and n columns:

    W'[k b + l, j b + c] = r[k, j, (l - c) mod b] * sign[j b + c]

In row l of a block row, each value of r stands at one place, so that w'_l = A_l r. The cost is least at

    r = (sum_l A_l^T S A_l)^-1 sum_l A_l^T S w_l        S = diag(sign) C diag(sign), zero beyond column n

In a block row with all b rows, the matrix of the system consists of q x q circulant blocks. An FFT turns it into
b / 2 + 1 systems of q x q. In the last block row, cut after L < b rows, it is a general matrix of q b rows. Its entry
at (t + 1, t' + 1) differs from that at (t, t') by the two entries of S that enter and leave the sum, so that building
it costs as much as reading it.

Symbols: n inputs, m outputs, b block, p = ceil(m / b), q = ceil(n / b).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from edgefc import generator
from edgefc.errors import ShapeError
from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.moments import Moments
from edgefc.fitting.problem import Problem, problem
from edgefc.fitting.registry import serves


@dataclass(frozen=True, kw_only=True, eq=False)
class CirculantFit(Fitted):
    """The parameters of CirculantLinear.

    Attributes:
        kernel   (p, q, b) float64, the first columns of the circulants
        seed     of the signs
    """

    kernel: Array
    seed: int
    in_features: int
    out_features: int

    def dense(self) -> Array:
        return expand(self.kernel, self.out_features, self.in_features) * signs(self.seed, self.in_features)

    @property
    def stored_bits(self) -> int:
        return 32 * self.kernel.size


def fit_circulant(
    weight: ArrayLike, bias: ArrayLike | None, moments: Moments | None, block: int | None = None, seed: int = 0
) -> CirculantFit:
    """Returns the block-circulant layer that minimises tr((W - W') C (W - W')^T). Exact.

    block=None is one circulant of length max(n, m).

    Raises:
        ShapeError: the block is not between 1 and max(n, m).
    """
    given = problem(weight, bias, moments)
    m, n = given.weight.shape
    length = max(n, m) if block is None else block
    if not 1 <= length <= max(n, m):
        raise ShapeError(f"a weight {(m, n)} needs a block from 1 to {max(n, m)}, got {block}.")
    flips = signs(seed, n)
    kernel = diagonal_means(given.weight * flips, length)
    plain = CirculantFit(kernel=kernel, seed=seed, in_features=n, out_features=m)
    return given.finished(plain, lambda product: replace(plain, kernel=kernel + _added(given, product, flips, length)))


@serves("Circulant")
def _fit(configuration: Any, weight: Array, bias: Array | None, moments: Moments | None, seed: int) -> CirculantFit:
    return fit_circulant(weight, bias, moments, configuration.block, seed)


def signs(seed: int, count: int) -> Array:
    """Returns the seeded signs of the inputs, (count,)."""
    flips: Array = generator.matrix(seed, 1, count, "rademacher")[0].astype(np.float64)
    return flips


def expand(kernel: Array, m: int, n: int) -> Array:
    """Returns the first m rows and n columns of the matrix of circulants, from kernel (p, q, b)."""
    p, q, b = kernel.shape
    doubled = np.concatenate([kernel[..., ::-1], kernel[..., :0:-1]], -1)
    blocks = sliding_window_view(doubled, b, -1)[..., ::-1, :]  # (p, q, b, b)
    return blocks.transpose(0, 2, 1, 3).reshape(p * b, q * b)[:m, :n]


def diagonal_sums(matrix: Array, b: int) -> Array:
    """Returns the sums of matrix (m, n) over (i - j) mod b in each block, padded with zeros: (p, q, b)."""
    m, n = matrix.shape
    p, q = -(-m // b), -(-n // b)
    sums = np.zeros((p, q, b))  # over (j - i) mod b
    padded = np.zeros((p, q * b))
    for i in range(min(b, m)):
        rows = matrix[i::b]
        padded[: len(rows), :n] = rows
        padded[len(rows) :] = 0
        blocks = padded.reshape(p, q, b)
        sums[..., : b - i] += blocks[..., i:]
        sums[..., b - i :] += blocks[..., :i]
    return sums[..., -np.arange(b) % b]


def diagonal_means(matrix: Array, b: int) -> Array:
    """Returns the circulants nearest to matrix (m, n) in the Frobenius norm: (p, q, b)."""
    return diagonal_sums(matrix, b) / np.maximum(diagonal_sums(np.ones_like(matrix), b), 1)


def _added(given: Problem, product: Array, flips: Array, b: int) -> Array:
    """Returns what the best kernel adds to one with the error D, from product = D C: (p, q, b)."""
    m, n = given.weight.shape
    right = diagonal_sums(product * flips, b)
    q = right.shape[1]
    square = np.zeros((q * b, q * b))
    np.multiply(given.square(), flips, out=square[:n, :n])
    square[:n] *= flips[:, None]
    whole, rest = divmod(m, b)
    added = np.zeros_like(right)
    if whole:
        added[:whole] = _solve_whole(square, right[:whole])
    if rest:
        added[whole] = _solve_cut(square, right[whole], rest, n)
    return added


def _solve_whole(square: Array, right: Array) -> Array:
    """Solves the systems of block rows with all rows, right (p, q, b), by FFTs along the diagonals."""
    b = right.shape[-1]
    spectrum = np.fft.rfft(diagonal_sums(square, b)).conj().transpose(2, 0, 1)  # (b // 2 + 1, q, q)
    solution = np.linalg.solve(spectrum, np.fft.rfft(right).transpose(2, 1, 0))
    return np.fft.irfft(solution.transpose(2, 1, 0), b)


def _solve_cut(square: Array, right: Array, rows: int, columns: int) -> Array:
    """Solves the system of a block row that is cut after `rows` rows, right (q, b). Unused values stay 0."""
    q, b = right.shape
    used = diagonal_sums(np.ones((rows, columns)), b).ravel() > 0
    system = _cut_system(square, q, b, rows)
    if not used.all():
        system = system[np.ix_(used, used)]
    solution = np.zeros(q * b)
    solution[used] = np.linalg.solve(system, right.ravel()[used])
    return solution.reshape(q, b)


def _cut_system(square: Array, q: int, b: int, rows: int) -> Array:
    """Returns N[t, t'] = sum over l < rows of square[l - t, l - t'], indices modulo b in each block, (q b, q b)."""
    entries = square.reshape(q, b, q, b)
    system = np.empty_like(entries)
    for j in range(q):
        first = np.concatenate([entries[j, :rows], np.zeros((b - rows, q, b))]).reshape(b, q * b)
        system[j, 0] = diagonal_sums(first, b)[0]
    for t in range(b - 1):
        entering = entries[:, -1 - t, :, ::-1]
        leaving = np.roll(entries[:, rows - 1 - t, :, ::-1], rows, -1)
        system[:, t + 1] = np.roll(system[:, t] + entering - leaving, 1, -1)
    return system.reshape(q * b, q * b)
