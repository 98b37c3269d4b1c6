"""The grid of quantised weights, the choice of its scales, and rounding to the nearest value."""

import numpy as np
from numpy.typing import NDArray

from edgefc.errors import UsageError
from edgefc.fitting.fitted import Array, Half

Codes = NDArray[np.uint8]
Rounded = tuple[Array, Half]
"""Codes without the zero point, (K, m) float64, and scales, (K / group, m)."""

BITS = (2, 3, 4, 8)

_FINEST = 2.0**-24  # the smallest positive float16
_LARGEST = 65504.0
_STEPS = 0.25  # of the divisors that the search tries
_NARROWEST = 0.55  # the search clips at least this part of the largest weight


def check_grid(weight: Array, bits: int, group: int) -> None:
    """Raises UsageError for bits other than 2, 3, 4 or 8, a group below 1, and weights out of reach of the scales."""
    if bits not in BITS:
        raise UsageError(f"weights can have {', '.join(map(str, BITS))} bits, got bits={bits!r}.")
    if group < 1:
        raise UsageError(f"a group must have at least 1 number, got group={group!r}.")
    largest, limit = float(np.abs(weight).max()), _LARGEST * (2 ** (bits - 1) - 1)
    if largest > limit:
        raise UsageError(
            f"{bits} bits with scales in float16 hold numbers up to {limit:g}, and a weight is {largest:g}."
        )


def group_of(width: int) -> int:
    """Returns the group, a power of two from 16 to 128, that stores rows of a width in 8 bits in the fewest bits."""
    return min((128, 64, 32, 16), key=lambda group: -(-width // group) * (8 * group + 16))


def values_of(codes: Codes, scales: Half, bits: int) -> Array:
    """Returns (code - 2**(bits - 1)) * scale.

    Shapes:
        codes (m, K), scales (m, K / group)  ->  (m, K) float64
    """
    steps = np.repeat(scales.astype(np.float64), codes.shape[1] // scales.shape[1], axis=1)
    values: Array = (codes.astype(np.float64) - 2 ** (bits - 1)) * steps
    return values


def stored(rounded: Rounded, bits: int) -> tuple[Codes, Half]:
    """Returns codes and scales as they are stored: codes (m, K) with the zero point, scales (m, K / group)."""
    codes, scales = rounded
    return (codes.T + 2 ** (bits - 1)).astype(np.uint8), np.ascontiguousarray(scales.T)


def nearest(weight: Array, importance: Array, bits: int, group: int) -> Rounded:
    """Returns codes and scales by rounding each weight to the nearest value of its group.

    Shapes:
        weight (K, m), importance (K,) at least 0  ->  codes (K, m) float64, scales (K / group, m)
    """
    codes, scales = np.empty_like(weight), np.empty((len(weight) // group, weight.shape[1]), np.float16)
    for index, first in enumerate(range(0, len(weight), group)):
        rows = slice(first, first + group)
        scales[index] = search(weight[rows], importance[rows, None], bits)
        codes[rows] = code_of(weight[rows], scales[index].astype(np.float64), bits)
    return codes, scales


def code_of(values: Array, scales: Array, bits: int) -> Array:
    """Returns the nearest codes without the zero point, from -2**(bits - 1) to 2**(bits - 1) - 1, as float64.

    Shapes:
        values (g, k), scales (k,), finite; 0 gives code 0  ->  (g, k)
    """
    half = 2 ** (bits - 1)
    inverse = np.divide(1.0, scales, out=np.zeros_like(scales), where=scales != 0)
    return np.clip(np.rint(values * inverse), -half, half - 1)


def search(groups: Array, importance: Array, bits: int) -> Half:
    """Returns the scale of each group with the smallest weighted error of rounding to the nearest value.

    The scales are float16. A negative scale gives the additional negative code to positive weights. The search tries
    the largest weight divided by many divisors, with both signs, then least squares on the codes found.

    Shapes:
        groups (g, k), importance (g, 1) or (g, k), at least 0  ->  (k,) float16
    """
    peak = groups[np.abs(groups).argmax(axis=0), np.arange(groups.shape[1])]
    best, least = to_scales(np.zeros_like(peak)), np.full(peak.shape, np.inf)
    for divisor in _divisors(bits):
        best, least = _better(groups, importance, bits, to_scales(-peak / divisor), best, least)
    codes = code_of(groups, best.astype(np.float64), bits)
    return _better(groups, importance, bits, _least_squares(groups, importance, codes), best, least)[0]


def _better(groups: Array, importance: Array, bits: int, tried: Half, best: Half, least: Array) -> tuple[Half, Array]:
    scales = tried.astype(np.float64)
    error = ((code_of(groups, scales, bits) * scales - groups) ** 2 * importance).sum(axis=0)
    better = error < least
    return np.where(better, tried, best), np.where(better, error, least)


def _least_squares(groups: Array, importance: Array, codes: Array) -> Half:
    """Returns the scales with the smallest weighted error for given codes; 0 where all codes are 0."""
    above, below = (importance * groups * codes).sum(axis=0), (importance * codes**2).sum(axis=0)
    return to_scales(np.divide(above, below, out=np.zeros_like(above), where=below > 0))


def to_scales(scales: Array) -> Half:
    """Returns scales in float16: those too large become the largest; those too small stay off 0."""
    size = np.clip(np.abs(scales), _FINEST, _LARGEST)
    return np.where(scales == 0, 0.0, np.copysign(size, scales)).astype(np.float16)


def _divisors(bits: int) -> list[float]:
    """The codes, and places between codes, at which the search puts the largest weight of a group.

    Positive ones give it the sign of the additional code. Every code is among them up to 4 bits, so that weights on a
    grid are found again. 8 bits gain nothing from clipping.
    """
    half = 2 ** (bits - 1)
    if bits == 8:
        return [half, half - 1, 1 - half]
    steps = np.arange(_NARROWEST * half, half + 0.51, _STEPS)
    both = {float(step) for step in steps} | {float(code) for code in range(1, half + 1)}
    return sorted(both | {-step for step in both})
