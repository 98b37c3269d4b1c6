"""Low rank: W' = up @ down, with the smallest tr((W - W') C (W - W')^T).

The columns of `up` span the leading eigenvectors U of W C W^T, and up @ down = U U^T W.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edgefc.errors import ShapeError
from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.moments import Moments
from edgefc.fitting.problem import problem
from edgefc.fitting.truncated import balanced, leading


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRankFit(Fitted):
    """The parameters of LowRankLinear. A column of `up` and the row of `down` have the same norm.

    Attributes:
        down   (r, n) float64
        up     (m, r) float64
    """

    down: Array
    up: Array

    def dense(self) -> Array:
        return self.up @ self.down

    @property
    def stored_bits(self) -> int:
        return 32 * (self.down.size + self.up.size)


def fit_low_rank(weight: ArrayLike, bias: ArrayLike | None, moments: Moments | None, rank: int) -> LowRankFit:
    """Returns the best matrix of a rank. Without moments C is the identity: the truncated SVD.

    Raises:
        ShapeError, UsageError: the arrays do not go together, or the rank is not from 1 to min(m, n).
    """
    posed = problem(weight, bias, moments)
    w = posed.weight
    if not 1 <= rank <= min(w.shape):
        raise ShapeError(f"the rank of a weight {w.shape} must be from 1 to {min(w.shape)}, got {rank}.")

    def fitted(covariance: Array | None) -> LowRankFit:
        down, up = factors(w, covariance, rank)
        return LowRankFit(down=down, up=up)

    return posed.finished(fitted(None), lambda _: fitted(posed.covariance))


def factors(weight: Array, covariance: Array | None, rank: int) -> tuple[Array, Array]:
    """Returns down (r, n) and up (m, r) with the smallest tr(D C D^T), D = W - up @ down.

    Shapes:
        weight (m, n), covariance (n, n) positive definite, or None for the identity
    """
    white = weight if covariance is None else weight @ np.linalg.cholesky(covariance)
    basis = leading(white.T, rank)
    up, across = balanced(basis, weight.T @ basis)
    return across.T, up
