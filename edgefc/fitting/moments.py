"""Mean and second moment of the inputs of a layer, in one streaming pass."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.fitted import Array

_ROWS = 4096  # rows that are converted to float64 at a time
_LARGEST = 1e100  # squares of larger values approach the end of float64


class Moments:
    """Count, mean and second moment of vectors of n numbers, in float64.

    The sums are kept about the running mean, so a mean that is large against the spread costs no accuracy.

    Attributes:
        count     the number of vectors
        mean      (n,)
        scatter   (n, n), the sum of (x - mean)(x - mean)^T
    """

    def __init__(self, count: int, mean: Array, scatter: Array) -> None:
        self.count, self.mean, self.scatter = count, mean, scatter

    @classmethod
    def empty(cls, n: int) -> "Moments":
        """Returns the moments of no vectors."""
        return cls(0, np.zeros(n), np.zeros((n, n)))

    @property
    def covariance(self) -> Array:
        """E[(x - mean)(x - mean)^T], (n, n); zeros if there are no vectors."""
        return self.scatter / max(self.count, 1)

    @property
    def second(self) -> Array:
        """E[x x^T], (n, n); zeros if there are no vectors."""
        return self.covariance + np.outer(self.mean, self.mean)

    def add(self, x: ArrayLike) -> None:
        """Adds vectors.

        Shapes:
            x (..., n), real numbers of any dtype

        Raises:
            ShapeError: the last axis is not n.
            UsageError: a value is NaN or infinite, or larger than 1e100. Nothing has been added then.
        """
        rows = checked_rows(x, len(self.mean))
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS].astype(np.float64)
            mean = part.mean(axis=0)
            part -= mean
            self._join(len(part), mean, part.T @ part)

    def merge(self, other: "Moments") -> "Moments":
        """Returns the moments of both sets of vectors together: what one pass over all of them gives.

        Raises:
            ShapeError: the two have different n.
        """
        if len(self.mean) != len(other.mean):
            raise ShapeError(f"moments of {len(self.mean)} and of {len(other.mean)} inputs cannot be merged.")
        both = Moments(self.count, self.mean.copy(), self.scatter.copy())
        both._join(other.count, other.mean, other.scatter)
        return both

    def through(self, matrix: Array) -> "Moments":
        """Returns the moments of A x for a matrix A (r, n)."""
        return Moments(self.count, matrix @ self.mean, matrix @ self.scatter @ matrix.T)

    def arrays(self, shift: ArrayLike | None = None) -> dict[str, NDArray[Any]]:
        """Returns sums that can be saved, and added between processes that use the same shift.

        Args:
            shift   (n,); the mean if None. Numbers near the mean keep the accuracy; zero is a choice too.

        Returns:
            count (), shift (n,), total (n,) = sum of (x - shift), outer (n, n) = sum of (x - shift)(x - shift)^T
        """
        about = self.mean if shift is None else np.asarray(shift, np.float64)
        offset = self.mean - about
        outer = self.scatter + self.count * np.outer(offset, offset)
        return {"count": np.array(self.count), "shift": about.copy(), "total": self.count * offset, "outer": outer}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, ArrayLike]) -> "Moments":
        """Returns the moments of what arrays() gave, or of sums of it over processes with one shift.

        Raises:
            UsageError: an array is missing, or has another shape, or values that are not finite.
        """
        try:
            count = int(np.asarray(arrays["count"]))
            shift, total, outer = (np.array(arrays[name], np.float64) for name in ("shift", "total", "outer"))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"these arrays are not moments: {error}. Pass what Moments.arrays() returns.") from None
        n = shift.size
        if count < 0 or shift.shape != (n,) or total.shape != (n,) or outer.shape != (n, n):
            shapes = f"count {count}, shift {shift.shape}, total {total.shape}, outer {outer.shape}"
            raise UsageError(f"these arrays are not moments: {shapes}. Pass what Moments.arrays() returns.")
        if not (np.isfinite(shift).all() and np.isfinite(total).all() and np.isfinite(outer).all()):
            raise UsageError("these moments have values that are NaN or infinite. Collect them again.")
        if count == 0:
            return cls.empty(n)
        offset = total / count
        return cls(count, shift + offset, outer - count * np.outer(offset, offset))

    def _join(self, count: int, mean: Array, scatter: Array) -> None:
        """Adds moments in place (Chan, Golub and LeVeque)."""
        total = self.count + count
        if count == 0:
            return
        offset = mean - self.mean
        self.scatter += scatter
        self.scatter += np.outer(offset, offset) * (self.count * count / total)
        self.mean = self.mean + offset * (count / total)
        self.count = total


def checked_rows(x: ArrayLike, n: int) -> NDArray[Any]:
    """Returns x (..., n) as rows (k, n), in its own dtype.

    Raises:
        ShapeError: the last axis is not n.
        UsageError: a value is not a real number, is NaN or infinite, or larger than 1e100.
    """
    array = np.asarray(x)
    if array.ndim == 0 or array.shape[-1] != n:
        raise ShapeError(f"inputs must have {n} numbers along the last axis, got the shape {array.shape}.")
    if array.dtype.kind in "cOSUMm":
        raise UsageError(f"inputs must be real numbers, got {array.dtype}.")
    rows = array.reshape(-1, n) if n else array.reshape(0, 0)
    if rows.size:
        low, high = float(rows.min()), float(rows.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise UsageError(
                f"the inputs of a layer with {n} inputs have values that are NaN or infinite. "
                "Check the model and the calibration data."
            )
        if max(-low, high) > _LARGEST:
            raise UsageError(f"inputs must be at most {_LARGEST:g} in size, got {max(-low, high):g}.")
    return rows


class TokenCounts:
    """How often each row of an embedding table was looked up.

    Attributes:
        counts   (V,) int64
    """

    def __init__(self, counts: NDArray[np.int64]) -> None:
        self.counts = counts

    @property
    def count(self) -> int:
        """The number of look-ups."""
        return int(self.counts.sum())

    @classmethod
    def empty(cls, rows: int) -> "TokenCounts":
        """Returns the counts before the first look-up."""
        return cls(np.zeros(rows, np.int64))

    def add(self, indices: ArrayLike) -> None:
        """Adds look-ups. Indices from -V to -1 count from the end, as in torch and ONNX.

        Raises:
            UsageError: an index is not an integer, or is outside the table. Nothing has been added then.
        """
        array = np.asarray(indices).reshape(-1)
        if array.size == 0:
            return
        if array.dtype.kind not in "iu":
            raise UsageError(f"token indices must be integers, got {array.dtype}.")
        size, low, high = len(self.counts), int(array.min()), int(array.max())
        if low < -size or high >= size:
            raise UsageError(f"token indices must be below {size}, the rows of the table; got {low} to {high}.")
        self.counts += np.bincount(array.astype(np.int64) % size, minlength=size)

    def merge(self, other: "TokenCounts") -> "TokenCounts":
        """Returns the counts of both together.

        Raises:
            ShapeError: the tables have different numbers of rows.
        """
        if self.counts.shape != other.counts.shape:
            sizes = f"{len(self.counts)} and of {len(other.counts)}"
            raise ShapeError(f"counts of tables of {sizes} rows cannot be merged.")
        return TokenCounts(self.counts + other.counts)
