"""Low rank: W' = up @ down, with the smallest tr((W - W') C (W - W')^T)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edgefc.errors import ShapeError
from edgefc.fitting.error import checked, corrected_bias, damped, row_errors
from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.half import HalfFit, to_half
from edgefc.fitting.moments import Moments
from edgefc.fitting.quantized import fit_quantized
from edgefc.fitting.registry import serves
from edgefc.fitting.subspace import factors
from edgefc.plan import LowRank


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


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRankPairFit(Fitted):
    """Two layers in sequence: `down`, n to r without a bias, then `up`, r to m with the bias.

    Attributes:
        down   HalfFit or QuantizedFit of (r, n)
        up     HalfFit or QuantizedFit of (m, r); its bias is that of the pair
    """

    down: Fitted
    up: Fitted

    def dense(self) -> Array:
        return self.up.dense() @ self.down.dense()

    @property
    def stored_bits(self) -> int:
        return self.down.stored_bits + self.up.stored_bits


def fit_low_rank(weight: ArrayLike, bias: ArrayLike | None, moments: Moments | None, rank: int) -> LowRankFit:
    """Returns the best matrix of a rank. Without moments C is the identity: the truncated SVD.

    Raises:
        ShapeError, UsageError: the arrays do not go together, or the rank is not from 1 to min(m, n).
    """
    w, b = checked(weight, bias, moments)
    if not 1 <= rank <= min(w.shape):
        raise ShapeError(f"the rank of a weight {w.shape} must be from 1 to {min(w.shape)}, got {rank}.")
    down, up = factors(w, None if moments is None else moments.covariance, rank)
    return LowRankFit(down=down, up=up, bias=corrected_bias(w, up @ down, b, moments))


@serves(LowRank)
def fit_stored(
    to: LowRank, weight: Array, bias: Array | None, moments: Moments | None, seed: int
) -> LowRankFit | LowRankPairFit:
    """Returns the fit of a plan's configuration: LowRankFit, or LowRankPairFit if it names a storage."""
    m, n = weight.shape
    fit = fit_low_rank(weight, bias, moments, to.rank_for(n, m))
    if to.storage is None:
        return fit
    down: Fitted
    up: Fitted
    if to.storage == "half":
        down, up = HalfFit(weight=to_half(fit.down)), HalfFit(weight=to_half(fit.up))
    else:
        down = fit_quantized(fit.down, None, moments, 8, _GROUP)
        between = None if moments is None else moments.through(down.dense())
        up = fit_quantized(fit.up, None, between, 8, _GROUP)
    ...
