"""Embedding tables: low rank weighted by frequency, and quantised rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.fitted import Array, Fitted, Half


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRankTableFit(Fitted):
    """A table of a low rank: row i is left[i] @ right.

    Attributes:
        left    (V, r) float64
        right   (r, d) float64
    """

    left: Array
    right: Array

    def dense(self) -> Array:
        return self.left @ self.right

    @property
    def stored_bits(self) -> int:
        return 32 * (self.left.size + self.right.size)


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedTableFit(Fitted):
    """The parameters of QuantizedEmbedding. The value of a code is (code - 2**(bits - 1)) * scale.

    K is d padded to a multiple of the group.

    Attributes:
        features   d
        bits       2, 4 or 8
        group      numbers of a row that share a scale
        codes      (V, K) uint8, from 0 to 2**bits - 1; padded places have 2**(bits - 1)
        scales     (V, K / group) float16; they may be negative
    """

    features: int
    bits: int
    group: int
    codes: NDArray[np.uint8]
    scales: Half

    def dense(self) -> Array:
        steps = np.repeat(self.scales.astype(np.float64), self.group, axis=1)
        return ((self.codes.astype(np.float64) - 2 ** (self.bits - 1)) * steps)[:, : self.features]

    @property
    def stored_bits(self) -> int:
        return self.bits * self.codes.size + 16 * self.scales.size


def fit_low_rank_table(table: ArrayLike, counts: ArrayLike | None, rank: int) -> LowRankTableFit:
    """Returns the table of a rank that is nearest when each row weighs counts + 1."""
    raise NotImplementedError


def fit_quantized_table(table: ArrayLike, bits: int, group: int) -> QuantizedTableFit:
    """Returns each row quantised in groups along the embedding axis."""
    raise NotImplementedError


def checked_table(table: ArrayLike, counts: ArrayLike | None) -> tuple[Array, Array | None]:
    """Returns table and counts in float64.

    Raises:
        ShapeError: the shapes do not go together.
        UsageError: a value is NaN or infinite, or a count is negative.
    """
    rows = np.array(table, np.float64)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ShapeError(f"a table must be (rows, features), each at least 1, got the shape {rows.shape}.")
    if not np.isfinite(rows).all():
        raise UsageError(f"the table {rows.shape} has values that are NaN or infinite. Check the model.")
    if counts is None:
        return rows, None
    numbers = np.array(counts, np.float64)
    if numbers.shape != rows.shape[:1]:
        raise ShapeError(f"a table of {len(rows)} rows needs as many counts, got the shape {numbers.shape}.")
    if not np.isfinite(numbers).all() or numbers.min() < 0:
        raise UsageError("the counts of a table must be finite and at least 0.")
    return rows, numbers
