"""Weights in 2, 3, 4 or 8 bits, in groups along the inputs.

Without moments each weight is rounded to the nearest value. With moments: GPTQ, then coordinate descent; or the
nearest values where their error is smaller.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from edgefc.errors import UsageError
from edgefc.fitting.fitted import Array, Fitted, Half
from edgefc.fitting.gptq import gptq, improved
from edgefc.fitting.half import to_half
from edgefc.fitting.low_rank import factors
from edgefc.fitting.moments import Moments
from edgefc.fitting.problem import Problem, problem
from edgefc.fitting.registry import serves
from edgefc.fitting.rotation import block_of, rotate, rotate_back
from edgefc.fitting.rounding import Codes, Rounded, check_grid, nearest, stored, values_of

if TYPE_CHECKING:
    from edgefc.plan import Int2, Int3, Int4, Int8

_DAMPING = 0.01  # added to C for GPTQ, relative to the mean diagonal
_SWEEPS = {2: 4, 3: 4, 4: 4, 8: 0}  # of coordinate descent; in 8 bits they gain nothing
_ROUNDS = 5  # of codes and correction in turn


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedFit(Fitted):
    """The parameters of QuantizedLinear and Int3Linear. The value of a code is (code - 2**(bits - 1)) * scale.

    K is n padded to a multiple of the group, and of the rotation's block if there is a rotation.

    Attributes:
        inputs   n
        bits     2, 3, 4 or 8
        group    inputs that share a scale
        seed     of the rotation of the inputs; None: not rotated
        codes    (m, K) uint8, from 0 to 2**bits - 1; padded inputs of a weight that is not rotated have 2**(bits - 1)
        scales   (m, K / group) float16; they may be negative
        down     (r, n) float16, of the correction up @ down, which acts on the inputs before the rotation
        up       (m, r) float16; r = 0 without a correction
    """

    inputs: int
    bits: int
    group: int
    seed: int | None
    codes: Codes
    scales: Half
    down: Half
    up: Half

    def values(self) -> Array:
        """Returns the matrix of the codes, (m, K) float64: rotated and padded, without the correction."""
        return values_of(self.codes, self.scales, self.bits)

    def dense(self) -> Array:
        values = self.values()
        if self.seed is not None:
            values = rotate_back(values, self.seed, block_of(self.inputs))
        return values[:, : self.inputs] + product(self.down, self.up)

    @property
    def stored_bits(self) -> int:
        return self.bits * self.codes.size + 16 * (self.scales.size + self.down.size + self.up.size)


def fit_quantized(
    weight: ArrayLike,
    bias: ArrayLike | None,
    moments: Moments | None,
    bits: int,
    group: int,
    seed: int | None = None,
    rank: int = 0,
    method: str = "gptq",
) -> QuantizedFit:
    """Returns the codes and scales that approach W in the weight of C.

    Args:
        bits     2, 3, 4 or 8
        group    inputs that share a scale
        seed     of a rotation of the inputs; None: no rotation
        rank     of a correction in float16, at most min(m, n); a larger one is reduced to it
        method   "gptq", or "nearest": rounding to the nearest value, the scales weighted by the diagonal of C

    Raises:
        ShapeError, UsageError: the arrays do not go together, or a setting is not one of these.
    """
    posed = problem(weight, bias, moments)
    check_grid(posed.weight, bits, group)
    if method not in ("gptq", "nearest"):
        raise UsageError(f"unknown method={method!r}. Choose gptq or nearest.")
    if rank < 0:
        raise UsageError(f"the rank of a correction must be at least 0, got {rank}.")
    plain = _Quantizer(posed.plain, bits, group, seed, method)
    corrected = min(rank, *posed.weight.shape)
    return posed.finished(plain.fit(corrected), lambda _: _Quantizer(posed, bits, group, seed, method).fit(corrected))


@serves("Int8")
def _serve_int8(to: "Int8", weight: Array, bias: Array | None, moments: Moments | None, seed: int) -> QuantizedFit:
    return fit_quantized(weight, bias, moments, 8, to.group)


@serves("Int4", "Int3")
def _serve(to: "Int4 | Int3", weight: Array, bias: Array | None, moments: Moments | None, seed: int) -> QuantizedFit:
    return fit_quantized(weight, bias, moments, int(to.kind[-1]), to.group, seed if to.rotate else None)


@serves("Int2")
def _serve_int2(to: "Int2", weight: Array, bias: Array | None, moments: Moments | None, seed: int) -> QuantizedFit:
    return fit_quantized(weight, bias, moments, 2, to.group, seed if to.rotate else None, to.rank)


class _Quantizer:
    """Quantises matrices like the weight of a problem. Works on W^T in the space of the rotated and padded inputs."""

    def __init__(self, posed: Problem, bits: int, group: int, seed: int | None, method: str) -> None:
        self._posed, self._bits, self._group, self._seed, self._method = posed, bits, group, seed, method
        self._inputs = posed.weight.shape[1]
        unit = group if seed is None else math.lcm(group, block_of(self._inputs))
        self._width = -(-self._inputs // unit) * unit
        c = posed.covariance
        self._covariance = None if c is None else self._spread(self._spread(c).T)

    def fit(self, rank: int) -> QuantizedFit:
        """Returns the fit with a correction of a rank, its bias not corrected."""
        if rank == 0:
            return self._quantized(*self._no_correction())
        weight = self._posed.weight
        best, least = None, math.inf
        down, up = self._correction(weight, rank)
        for _ in range(_ROUNDS):
            fit = self._quantized(down, up)
            down, up = self._correction(weight - (fit.dense() - product(down, up)), rank)
            fit = replace(fit, down=down, up=up)
            cost = self._posed.cost(fit.dense())
            if best is None or cost < least:
                best, least = fit, cost
        assert best is not None
        return best

    def _no_correction(self) -> tuple[Half, Half]:
        m, n = self._posed.weight.shape
        return np.zeros((0, n), np.float16), np.zeros((m, 0), np.float16)

    def _correction(self, rest: Array, rank: int) -> tuple[Half, Half]:
        down, up = factors(rest, self._posed.covariance, rank)
        return to_half(down), to_half(up)

    def _quantized(self, down: Half, up: Half) -> QuantizedFit:
        """Returns the fit with codes for what a correction leaves of the weight."""
        target = self._spread(self._posed.weight - product(down, up))
        codes, scales = stored(self._rounded(np.ascontiguousarray(target.T)), self._bits)
        return QuantizedFit(
            inputs=self._inputs, bits=self._bits, group=self._group, seed=self._seed,
            codes=codes, scales=scales, down=down, up=up, bias=self._posed.bias,
        )  # fmt: skip

    def _rounded(self, target: Array) -> Rounded:
        c = self._covariance
        if c is None:
            return nearest(target, np.ones(self._width), self._bits, self._group)
        if self._method == "nearest":
            return nearest(target, np.diag(c), self._bits, self._group)
        firm = c + _DAMPING * np.eye(self._width)  # the mean diagonal of C is 1
        start = gptq(target, firm, self._bits, self._group)
        return improved(target, firm, self._bits, *start, _SWEEPS[self._bits])

    def _spread(self, rows: Array) -> Array:
        """Pads and rotates the inputs of rows (k, n): (k, K)."""
        padded = np.pad(rows, ((0, 0), (0, self._width - self._inputs)))
        return padded if self._seed is None else rotate(padded, self._seed, block_of(self._inputs))


def product(down: Half, up: Half) -> Array:
    """Returns up @ down in float64."""
    matrix: Array = up.astype(np.float64) @ down.astype(np.float64)
    return matrix
