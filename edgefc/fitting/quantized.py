"""Weights in 2, 3, 4 or 8 bits, in groups along the inputs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgefc.fitting.fitted import Array, Fitted, Half
from edgefc.fitting.moments import Moments
from edgefc.fitting.rotation import block_of, rotate_back


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
    codes: NDArray[np.uint8]
    scales: Half
    down: Half
    up: Half

    def values(self) -> Array:
        """Returns the matrix of the codes, (m, K) float64: rotated and padded, without the correction."""
        steps = np.repeat(self.scales.astype(np.float64), self.group, axis=1)
        values: Array = (self.codes.astype(np.float64) - 2 ** (self.bits - 1)) * steps
        return values

    def dense(self) -> Array:
        values = self.values()
        if self.seed is not None:
            values = rotate_back(values, self.seed, block_of(self.inputs))
        return values[:, : self.inputs] + self.up.astype(np.float64) @ self.down.astype(np.float64)

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
        rank     of a correction in float16
        method   "gptq": each rounding error is compensated by the weights that follow; "nearest": it is not
    """
    raise NotImplementedError
