"""Low rank: W' = up @ down."""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.moments import Moments


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRankFit(Fitted):
    """The parameters of LowRankLinear.

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
    """Returns the matrix of a rank that minimises tr((W - W') C (W - W')^T). Without moments: the truncated SVD.

    Raises:
        ShapeError: the rank is not between 1 and min(m, n).
    """
    raise NotImplementedError
