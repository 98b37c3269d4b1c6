"""Decides whether an output of onnxruntime equals that of torch: correct runtimes pass, and wrong values fail.

Floating-point outputs are compared as a whole, per column (each index of the last axis) and per row (each vector along
the last axis). One norm over the whole output would hide a column of small wrong values next to large values. A part
passes if its normalised mean squared error is within the bound. It also passes if its mean squared error is at most
that which rounding causes in the same part of torch's output. rounding.py measures this, only if a part is over the
bound. For a whole output the measurement counts only while it is a hundred times smaller than the output, or than the
change of the output for other inputs: an output that is dominated by rounding cannot be verified.

Integers, booleans, and floating-point outputs with only integral values are compared by count, because rounding can
turn a difference in the last digit into another pixel value, label or mask. At most one entry in 1,000 may differ, and
at least one entry is always allowed. Each such entry must have a value that torch gives at the same position in a run
with magnified rounding.

NaN cannot be compared. If more than half of an output is NaN or infinite, or a whole column is NaN, the comparison
fails unless the caller allows it. Other values that are not finite, such as the -inf of a mask, must be equal at the
same positions.
"""

import abc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefc.export.verifying.measures import NMSE_BOUND_HALF, Comparison, largest_difference, nmse, same_not_finite

SHARE = 1e-3
"""The largest fraction of entries that may differ in an output that is compared by count."""

ACTUAL = 8.0
"""The smallest ratio of magnified rounding to actual rounding."""

HOPELESS = 100.0
"""A part fails after four runs if its error is this many times larger than magnified rounding explains."""

CLEAR = 1e-2
"""The largest relative change of a whole output that rounding may cause."""

_SMALLEST = {"float16": 2.0**-22, "float32": 2.0**-126, "float64": 2.0**-1022}
"""Differences that are ignored: values below the smallest normal number, which runtimes may set to zero."""


class Judge(abc.ABC):
    """Compares one output. Until it is settled, it needs more outputs of torch with magnified rounding."""

    @property
    @abc.abstractmethod
    def settled(self) -> bool:
        """Whether no further output of torch is needed."""

    @abc.abstractmethod
    def observe(self, sample: NDArray[Any]) -> None:
        """Adds an output of torch for the same inputs, computed with magnified rounding."""

    @abc.abstractmethod
    def comparison(self) -> Comparison:
        """Returns the result for all outputs observed so far."""


def judge(
    draft: Comparison, actual: NDArray[Any], expected: NDArray[Any], *, allow_nonfinite: bool, moved: float = 0.0
) -> Judge:
    """Returns the judge for one output. `moved` is the mean square of the change of torch's output for other inputs."""
    floats = expected.dtype.kind == "f"
    bound = max(draft.bound, NMSE_BOUND_HALF if expected.dtype == np.float16 else 0.0) if floats else 0.0
    draft = replace(
        draft,
        shape=expected.shape,
        nmse=nmse(actual, expected),
        largest_difference=largest_difference(actual, expected),
        bound=bound,
    )
    if actual.shape != expected.shape:
        problem = f"has shape {actual.shape} in onnxruntime and {expected.shape} in torch"
        return _Settled(replace(draft, failure=problem, differs=True, excess=np.inf))
    if actual.dtype != expected.dtype:
        problem = f"is {actual.dtype} in onnxruntime and {expected.dtype} in torch"
        return _Settled(replace(draft, failure=problem, differs=True, excess=np.inf))
    if not floats:
        return _ByCount(draft, actual, expected)
    if not same_not_finite(actual, expected):
        problem = "has NaN or infinities in onnxruntime that differ from those in torch, or are in other positions"
        return _Settled(replace(draft, failure=problem, differs=True, excess=np.inf))
    draft = replace(draft, not_finite=int((~np.isfinite(expected)).sum()))
    refusal = None if allow_nonfinite else _nothing_compared(expected)
    if refusal:
        return _Settled(replace(draft, failure=refusal, excess=np.inf))
    by_size = _BySize(draft, actual, expected, moved)
    return by_size if by_size.settled or not _whole(actual, expected) else _ByCount(draft, actual, expected)


def _nothing_compared(expected: NDArray[Any]) -> str | None:
    """Returns why an output with values that are not finite cannot be compared, or None if it can."""
    missing, nan = ~np.isfinite(expected), _table(np.isnan(expected))
    if 2 * missing.sum() > expected.size:
        count = f"{missing.sum():,} of {expected.size:,} entries"
        return f"is NaN or infinite in {count}, in both torch and onnxruntime, so little or nothing was compared"
    columns = np.flatnonzero(nan.all(0))
    if nan.size and len(columns):
        return f"is NaN in all of column {columns[0]}, in both torch and onnxruntime, so the column was not compared"
    return None


def _whole(*arrays: NDArray[Any]) -> bool:
    return all(bool(np.isfinite(array).all() and (array == np.round(array)).all()) for array in arrays)


def _table(array: NDArray[Any]) -> NDArray[Any]:
    """Reshapes to (rows, columns): the columns are the last axis, the rows are all others."""
    return array.reshape(-1, array.shape[-1]) if array.ndim and array.size else array.reshape(1, -1)


class _Settled(Judge):
    settled = True

    def __init__(self, result: Comparison) -> None:
        self._result = result

    def observe(self, sample: NDArray[Any]) -> None:
        pass

    def comparison(self) -> Comparison:
        return self._result


_AXES = {"": None, "column": 0, "row": 1}


class _BySize(Judge):
    """Compares the squared differences of the whole, each column and each row with those that rounding causes."""

    def __init__(self, draft: Comparison, actual: NDArray[Any], expected: NDArray[Any], moved: float) -> None:
        self._draft = draft
        self._finite = np.isfinite(expected)
        self._expected = np.where(self._finite, expected, 0).astype(np.float64)
        self._scale = float(np.abs(self._expected).max(initial=0.0)) or 1.0
        self._moved = moved / self._scale**2 * expected.size
        self._error = self._sums(self._square(actual))
        self._power = self._sums(np.square(_table(self._expected / self._scale)))
        smallest = _SMALLEST.get(expected.dtype.name, 0.0) / self._scale
        self._least = self._sums(np.full_like(_table(self._expected), smallest**2))
        self._rounding = {kind: np.zeros_like(sums) for kind, sums in self._error.items()}
        self._runs = 0

    def _square(self, values: NDArray[Any]) -> NDArray[Any]:
        """Returns squared differences from torch's output. They are 0 if either value is not finite."""
        with np.errstate(invalid="ignore", over="ignore"):
            gap = (np.where(self._finite, values, 0).astype(np.float64) - self._expected) / self._scale
            return _table(np.where(np.isfinite(gap), np.square(gap), 0.0))

    @staticmethod
    def _sums(table: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {kind: np.atleast_1d(table.sum(axis)) for kind, axis in _AXES.items()}

    @property
    def settled(self) -> bool:
        excess = self._worst()[0]
        return excess <= 1 or (self._runs >= 4 and excess > HOPELESS)

    def observe(self, sample: NDArray[Any]) -> None:
        if sample.shape != self._expected.shape:
            return
        for kind, sums in self._sums(self._square(sample)).items():
            self._rounding[kind] += sums
        self._runs += 1

    def _mean_rounding(self, kind: str) -> NDArray[Any]:
        mean: NDArray[Any] = self._rounding[kind] / max(self._runs, 1)
        if kind or mean.sum() <= CLEAR**2 * max(float(self._power[kind].sum()), self._moved):
            return mean
        return np.zeros_like(mean)

    def _excesses(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields for each part the ratio of the error to the largest allowed error, as a ratio of amplitudes."""
        for kind, error in self._error.items():
            allowed = np.maximum(self._draft.bound * self._power[kind], self._mean_rounding(kind)) + self._least[kind]
            with np.errstate(divide="ignore", invalid="ignore"):
                yield kind, np.sqrt(np.where(error > 0, error / allowed, 0.0))

    def _worst(self) -> tuple[float, str, int]:
        """Returns the largest excess, and the kind and the index of its part."""
        worst = [(float(e.max(initial=0.0)), kind, int(e.argmax()) if e.size else 0) for kind, e in self._excesses()]
        return max(worst, key=lambda part: part[0])

    def _noise_columns(self) -> int:
        error, power = self._error["column"], self._power["column"]
        rounding = self._mean_rounding("column") / ACTUAL**2
        return int(((error > self._draft.bound * power) & (rounding >= power)).sum())

    def comparison(self) -> Comparison:
        excess, kind, index = self._worst()
        error, power = float(self._error[kind][index]), float(self._power[kind][index])
        part = self._name(kind, index) if kind else ""
        part_nmse = error / power if power else float("inf") if error else 0.0
        result = replace(
            self._draft, excess=excess, part=part, part_nmse=part_nmse, noise_columns=self._noise_columns()
        )
        if excess <= 1:
            return result
        where = f" in {part}" if part else ""
        problem = f"has a normalised mean squared error of {part_nmse:.1e}{where}, over the bound of {result.bound:.0e}"
        if self._runs:
            problem += f" and {excess:.3g} times what rounding can explain" if part else self._noise_clause(excess)
        return replace(result, failure=problem, differs=True)

    def _noise_clause(self, excess: float) -> str:
        if (self._rounding[""] > 0).any() and not self._mean_rounding("").any():
            return " (rounding alone changes this output so much that it cannot be verified)"
        return f" and {excess:.3g} times what rounding can explain"

    def _name(self, kind: str, index: int) -> str:
        if kind == "column" or self._expected.ndim <= 2:
            return f"{kind} {index}"
        return f"row {tuple(int(i) for i in np.unravel_index(index, self._expected.shape[:-1]))}"


class _ByCount(Judge):
    """Counts the entries that differ, and checks whether torch gives these values with magnified rounding."""

    def __init__(self, draft: Comparison, actual: NDArray[Any], expected: NDArray[Any]) -> None:
        self._at = actual != expected
        self._values = actual[self._at]
        self._explained = np.zeros(len(self._values), bool)
        self._draft = replace(draft, bound=0.0, differing=len(self._values))
        self._allowed = max(1, int(SHARE * expected.size))

    @property
    def settled(self) -> bool:
        return len(self._values) > self._allowed or bool(self._explained.all())

    def observe(self, sample: NDArray[Any]) -> None:
        if sample.shape == self._at.shape:
            self._explained |= sample[self._at] == self._values

    def comparison(self) -> Comparison:
        count, unexplained = len(self._values), int((~self._explained).sum())
        if not unexplained and count <= self._allowed:
            return replace(self._draft, excess=min(1.0, count / self._allowed))
        problem = f"differs in {count:,} of {self._at.size:,} entries, by at most {self._draft.largest_difference:g}"
        if count > self._allowed:
            problem += f"; rounding can explain {self._allowed:,}"
        else:
            problem += f"; rounding does not explain {unexplained:,} of them"
        return replace(self._draft, excess=np.inf, failure=problem, differs=True)
