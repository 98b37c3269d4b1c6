"""Low rank in float16 or in 8 bits: two stored matrices in sequence."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgefc.fitting.error import corrected_bias
from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.half import fit_half
from edgefc.fitting.low_rank import LowRankFit, fit_low_rank
from edgefc.fitting.moments import Moments
from edgefc.fitting.quantized import fit_quantized
from edgefc.fitting.registry import serves
from edgefc.fitting.rounding import group_of

if TYPE_CHECKING:
    from edgefc.plan import LowRank


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRankPairFit(Fitted):
    """Two layers in sequence: `down`, n to r without a bias, then `up`, r to m.

    Attributes:
        down   HalfFit or QuantizedFit of (r, n), without a bias
        up     HalfFit or QuantizedFit of (m, r), with the bias of the pair
    """

    down: Fitted
    up: Fitted

    def dense(self) -> Array:
        return self.up.dense() @ self.down.dense()

    @property
    def stored_bits(self) -> int:
        return self.down.stored_bits + self.up.stored_bits


@serves("LowRank")
def _serve(to: "LowRank", weight: Array, bias: Array | None, moments: Moments | None, seed: int) -> Fitted:
    m, n = weight.shape
    fit = fit_low_rank(weight, bias, moments, to.rank_for(n, m))
    if to.storage is None:
        return fit
    down, up = _stored(fit, bias, to.storage, moments)
    pair = LowRankPairFit(down=down, up=up)
    corrected = corrected_bias(weight, pair.dense(), bias, moments)
    return replace(pair, up=replace(up, bias=corrected), bias=corrected)


def _stored(fit: LowRankFit, bias: Array | None, storage: str, moments: Moments | None) -> tuple[Fitted, Fitted]:
    if storage == "half":
        return fit_half(fit.down), fit_half(fit.up)
    down = _eight_bits(fit.down, bias, moments)
    return down, _eight_bits(fit.up, bias, None if moments is None else moments.through(down.dense()))


def _eight_bits(factor: Array, bias: Array | None, moments: Moments | None) -> Fitted:
    """A factor without a bias. If the pair has a bias, it corrects the mean for both factors."""
    own = None if bias is None else np.zeros(len(factor))
    return replace(fit_quantized(factor, own, moments, 8, group_of(factor.shape[1])), bias=None)
