"""The loss of a model: how far its outputs are from those of the original. 0 if they are unchanged.

The loss of an output of vectors is 1 - the mean cosine of the vectors along its last axis. That of single numbers is
|new - old|^2 / |old|^2. That of integers, booleans and strings is the part that differs; it counts only if the model
has no other outputs. The loss of the model is the mean over its outputs, and infinite if an output is NaN or infinite
where it was not.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefc.choosing.report import OutputResult
from edgefc.rewriting.feeds import Feeds
from edgefc.rewriting.moments import mask_of
from edgefc.runtime.session import Session

Array = NDArray[Any]


class Loss:
    """The loss over the outputs of several feeds."""

    def __init__(self) -> None:
        self._outputs: list[_Output] = []

    def add(self, before: Sequence[Array], after: Sequence[Array], mask: NDArray[np.bool_] | None = None) -> None:
        """Adds the outputs for one feed.

        Args:
            mask: True for each token that is not padding, (batch, tokens). The others are left out of outputs with
                these axes.
        """
        self._outputs = self._outputs or [_Output() for _ in before]
        for output, old, new in zip(self._outputs, before, after, strict=True):
            output.add(*(_kept(np.asarray(each), mask) for each in (old, new)))

    def value(self) -> float:
        values = [output.value() for output in self._outputs if output.is_float] or [
            output.value() for output in self._outputs
        ]
        return float(np.mean(values)) if values else 0.0

    def results(self, names: Sequence[str], *, held_out: bool) -> tuple[OutputResult, ...]:
        """The change of each output."""
        return tuple(output.result(name, held_out) for name, output in zip(names, self._outputs, strict=True))


def loss_between(old: Session, new: Session, samples: Iterable[Feeds]) -> Loss:
    """The loss of a model on some feeds."""
    total, names = Loss(), [port.name for port in old.outputs]
    for feeds in samples:
        total.add(old.run(names, feeds), new.run(names, feeds), mask_of(feeds))
    return total


class _Output:
    """The sums of one output."""

    def __init__(self) -> None:
        self.is_float = True
        self._loss, self._weight, self._broken = 0.0, 0.0, False
        self._error, self._power, self._vectors, self._samples = 0.0, 0.0, False, 0

    def add(self, old: Array, new: Array) -> None:
        self.is_float = old.dtype.kind in "fV"
        self._samples += len(old) if old.ndim else 1
        if old.shape != new.shape:
            self._broken = True
        elif not self.is_float:
            self._sum(float((old != new).sum()), old.size)
        elif old.size:
            self._add_floats(old.astype(np.float64), new.astype(np.float64))

    def value(self) -> float:
        if self._broken:
            return float("inf")
        if self._weight == 0:
            return 0.0 if self._loss == 0 else float("inf")
        return self._loss / self._weight

    def result(self, name: str, held_out: bool) -> OutputResult:
        if not self.is_float:
            return OutputResult(name, self._samples, self.value(), None, held_out)
        error = float("inf") if self._broken or (self._error and not self._power) else 0.0
        if self._power:
            error = (self._error / self._power) ** 0.5
        cosine = 1 - self.value() if self._vectors and not self._broken else None
        return OutputResult(name, self._samples, error, cosine, held_out)

    def _add_floats(self, old: Array, new: Array) -> None:
        finite = np.isfinite(old)
        if not np.array_equal(finite, np.isfinite(new)):
            self._broken = True
            return
        old, new = np.where(finite, old, 0.0), np.where(finite, new, 0.0)
        self._error += float(np.square(new - old).sum())
        self._power += float(np.square(old).sum())
        if old.ndim and old.shape[-1] > 1:
            self._vectors = True
            cosines = cosines_of(old, new)
            self._sum(float((1.0 - cosines).sum()), cosines.size)
        else:
            self._sum(float(np.square(new - old).sum()), float(np.square(old).sum()))

    def _sum(self, loss: float, weight: float) -> None:
        self._loss, self._weight = self._loss + loss, self._weight + weight


def cosines_of(old: Array, new: Array) -> Array:
    """The cosine of each pair of vectors along the last axis. Zero with zero is 1, zero with something else is 0.

    1 - cosine is computed from the difference of the unit vectors, so that a small one is exact.
    """
    a, b = (each.reshape(-1, each.shape[-1]) for each in (old, new))
    lengths = [np.linalg.norm(each, axis=1, keepdims=True) for each in (a, b)]
    units = [each / np.where(length == 0, 1.0, length) for each, length in zip((a, b), lengths, strict=True)]
    cosines: Array = 1.0 - np.square(units[0] - units[1]).sum(axis=1) / 2
    empty = (lengths[0] == 0)[:, 0] | (lengths[1] == 0)[:, 0]
    cosines[empty] = (a == b).all(axis=1)[empty]
    return cosines


def _kept(x: Array, mask: NDArray[np.bool_] | None) -> Array:
    if mask is not None and x.ndim > mask.ndim and x.shape[: mask.ndim] == mask.shape:
        kept: Array = x[mask]
        return kept
    return x
