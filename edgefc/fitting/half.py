"""Float16 storage."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from edgefc.errors import UsageError
from edgefc.fitting.error import checked, corrected_bias
from edgefc.fitting.fitted import Array, Fitted, Half
from edgefc.fitting.moments import Moments
from edgefc.fitting.registry import serves

if TYPE_CHECKING:
    from edgefc.plan import Half as ToHalf

_LARGEST = 65504.0


@dataclass(frozen=True, kw_only=True, eq=False)
class HalfFit(Fitted):
    """The parameters of HalfLinear and HalfEmbedding.

    Attributes:
        weight   (m, n) float16
    """

    weight: Half

    def dense(self) -> Array:
        return self.weight.astype(np.float64)

    @property
    def stored_bits(self) -> int:
        return 16 * self.weight.size


def fit_half(weight: ArrayLike, bias: ArrayLike | None = None) -> HalfFit:
    """Returns the weight rounded to float16.

    Raises:
        UsageError: a weight is larger than 65504, the largest number in float16.
    """
    w, b = checked(weight, bias, None)
    return HalfFit(bias=b, weight=to_half(w))


def to_half(values: Array) -> Half:
    """Returns values rounded to float16.

    Raises:
        UsageError: a value is larger than 65504.
    """
    largest = float(np.abs(values).max(initial=0.0))
    if largest > _LARGEST:
        raise UsageError(f"float16 holds numbers up to {_LARGEST:g}, and a weight is {largest:g}. Keep this layer.")
    return values.astype(np.float16)


@serves("Half")
def _serve(to: "ToHalf", weight: Array, bias: Array | None, moments: Moments | None, seed: int) -> HalfFit:
    fit = fit_half(weight)
    return replace(fit, bias=corrected_bias(weight, fit.dense(), bias, moments))
