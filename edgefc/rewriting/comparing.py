"""Compares the outputs of two models on the same feeds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefc.errors import CheckFailed, UsageError
from edgefc.progress import steps
from edgefc.rewriting.feeds import Calibration
from edgefc.runtime.session import Session

Array = NDArray[Any]


@dataclass(frozen=True)
class OutputChange:
    """The change of one output on the held-out samples.

    Attributes:
        name                 the name of the output
        samples              the number of samples, or of feeds if the samples are not along the first axis
        nmse                 |new - old|^2 / |old|^2 over all values
        worst_cosine         the smallest cosine of a sample of the new output to the old one; None if a sample has one
                             number, or the output has no floats
        largest_difference   the largest |new - old| of one value
        differing            the fraction of values that differ, for integers and booleans; else 0
    """

    name: str
    samples: int
    nmse: float
    worst_cosine: float | None
    largest_difference: float
    differing: float


def compare(old: Session, new: Session, data: Calibration) -> tuple[OutputChange, ...]:
    """Runs both models on the held-out feeds.

    Raises:
        UsageError: no value of an output of the old model is finite.
        CheckFailed: an output changed its shape or its type, or has NaN or infinities where it had none.
    """
    totals = {port.name: _Total(port.name, batched=data.batched) for port in old.outputs}
    for feeds in steps(data.held, "comparing outputs"):
        before, after = old.run(feeds), new.run(feeds)
        _add(totals, before, after)
    return tuple(total.change() for total in totals.values())


def _add(totals: Mapping[str, "_Total"], before: Mapping[str, Array], after: Mapping[str, Array]) -> None:
    for name, total in totals.items():
        total.add(np.asarray(before[name]), np.asarray(after[name]))


class _Total:
    def __init__(self, name: str, *, batched: bool) -> None:
        self.name, self.batched = name, batched
        self.samples, self.error, self.power, self.largest = 0, 0.0, 0.0, 0.0
        self.cosine, self.is_exact, self.values, self.unequal = 1.0, False, 0, 0
        self.several = False

    def add(self, before: Array, after: Array) -> None:
        if before.shape != after.shape or before.dtype != after.dtype:
            raise CheckFailed(
                f"output {self.name!r} was {before.dtype}{list(before.shape)} and is {after.dtype}{list(after.shape)}. "
                "Nothing was written."
            )
        self.is_exact = before.dtype.kind not in "fV"
        rows = len(before) if self.batched and before.ndim else 1
        self.samples += rows
        if before.size == 0:
            return
        if before.dtype.kind in "OSU":
            self.values, self.unequal = self.values + before.size, self.unequal + int((before != after).sum())
            return
        a, b = (each.astype(np.float64).reshape(rows, -1) for each in (before, after))
        if not np.isfinite(a).any():
            raise UsageError(
                f"output {self.name!r} of the given model is not finite on a held-out sample. Check the model and the "
                "calibration data."
            )
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            raise CheckFailed(
                f"output {self.name!r} has NaN or infinities where it had none, or the other way round. Nothing was "
                "written. Keep more layers, or use more bits."
            )
        a, b = np.where(np.isfinite(a), a, 0.0), np.where(np.isfinite(b), b, 0.0)
        self._measure(a, b)

    def _measure(self, a: Array, b: Array) -> None:
        self.error += float(np.square(b - a).sum())
        self.power += float(np.square(a).sum())
        self.largest = max(self.largest, float(np.abs(b - a).max()))
        self.values, self.unequal = self.values + a.size, self.unequal + int((a != b).sum())
        self.several |= a.shape[1] > 1
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines = np.einsum("ij,ij->i", a, b) / np.where(lengths == 0, 1.0, lengths)
        cosines = np.where(lengths == 0, np.where((a == b).all(axis=1), 1.0, 0.0), cosines)
        self.cosine = min(self.cosine, float(cosines.min()))

    def change(self) -> OutputChange:
        return OutputChange(
            name=self.name,
            samples=self.samples,
            nmse=_ratio(self.error, self.power),
            worst_cosine=self.cosine if self.several and not self.is_exact else None,
            largest_difference=self.largest,
            differing=self.unequal / max(self.values, 1) if self.is_exact else 0.0,
        )


def _ratio(error: float, power: float) -> float:
    if power == 0:
        return 0.0 if error == 0 else float("inf")
    return error / power


def worst(changes: Iterable[OutputChange]) -> float:
    """The largest nmse of all outputs."""
    return max((change.nmse for change in changes), default=0.0)
