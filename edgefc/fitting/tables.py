"""Embedding tables: low rank weighted by frequency, quantised rows, and float16."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.fitted import Array, Fitted, Half
from edgefc.fitting.half import HalfFit, fit_half
from edgefc.fitting.registry import serves_tables
from edgefc.fitting.rounding import Codes, check_grid, group_of, nearest, stored, values_of
from edgefc.fitting.truncated import balanced, leading

if TYPE_CHECKING:
    from edgefc.plan import Half as ToHalf
    from edgefc.plan import Int2, Int4, Int8, LowRank

_ROWS = 4096  # rows that are quantised at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class LowRankTableFit(Fitted):
    """A table of a low rank: row i is left[i] @ right. A column of `left` and the row of `right` have the same norm.

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
class TablePairFit(Fitted):
    """A table of a low rank, stored in fewer bits: an embedding `left`, then a linear layer without a bias.

    Attributes:
        left    HalfFit or QuantizedTableFit of (V, r)
        right   HalfFit of (r, d)
    """

    left: Fitted
    right: HalfFit

    def dense(self) -> Array:
        return self.left.dense() @ self.right.dense()

    @property
    def stored_bits(self) -> int:
        return self.left.stored_bits + self.right.stored_bits


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
    codes: Codes
    scales: Half

    def dense(self) -> Array:
        return values_of(self.codes, self.scales, self.bits)[:, : self.features]

    @property
    def stored_bits(self) -> int:
        return self.bits * self.codes.size + 16 * self.scales.size


def fit_low_rank_table(table: ArrayLike, counts: ArrayLike | None, rank: int) -> LowRankTableFit:
    """Returns the table of a rank with the smallest sum of (counts + 1) * squared error. All rows alike without counts.

    Shapes:
        table (V, d), counts (V,) or None

    Raises:
        ShapeError, UsageError: the arrays do not go together, or the rank is not from 1 to min(V, d).
    """
    rows, numbers = checked_table(table, counts)
    if not 1 <= rank <= min(rows.shape):
        raise ShapeError(f"the rank of a table {rows.shape} must be from 1 to {min(rows.shape)}, got {rank}.")
    weighted = rows if numbers is None else rows * np.sqrt(numbers + 1)[:, None]
    across = leading(weighted, rank)
    left, right = balanced(rows @ across, across)
    return LowRankTableFit(left=left, right=right.T)


def fit_quantized_table(table: ArrayLike, bits: int, group: int) -> QuantizedTableFit:
    """Returns each row rounded to the nearest values, in groups along the embedding axis.

    Raises:
        ShapeError, UsageError: the table or a setting cannot be used.
    """
    rows, _ = checked_table(table, None)
    check_grid(rows, bits, group)
    features = rows.shape[1]
    width = -(-features // group) * group
    codes, scales = np.empty((len(rows), width), np.uint8), np.empty((len(rows), width // group), np.float16)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        columns = np.ascontiguousarray(np.pad(rows[part], ((0, 0), (0, width - features))).T)
        codes[part], scales[part] = stored(nearest(columns, np.ones(width), bits, group), bits)
    return QuantizedTableFit(features=features, bits=bits, group=group, codes=codes, scales=scales)


@serves_tables("Int8", "Int4", "Int2")
def _serve(to: "Int8 | Int4 | Int2", table: Array, counts: Array | None, seed: int) -> QuantizedTableFit:
    return fit_quantized_table(table, int(to.kind[-1]), to.group)


@serves_tables("Half")
def _serve_half(to: "ToHalf", table: Array, counts: Array | None, seed: int) -> HalfFit:
    return fit_half(table)


@serves_tables("LowRank")
def _serve_low_rank(to: "LowRank", table: Array, counts: Array | None, seed: int) -> LowRankTableFit | TablePairFit:
    size, features = table.shape
    fit = fit_low_rank_table(table, counts, to.rank_for(features, size))
    if to.storage is None:
        return fit
    left: Fitted = (
        fit_half(fit.left) if to.storage == "half" else fit_quantized_table(fit.left, 8, group_of(fit.left.shape[1]))
    )
    return TablePairFit(left=left, right=fit_half(fit.right))


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
