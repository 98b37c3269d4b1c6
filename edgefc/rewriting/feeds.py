"""Calibration data: the feeds of a model, from arrays, a .npz file or a sequence.

Arrays are named as the inputs. Their first axis has the samples if they have as many axes as the inputs. If they have
one more, it has whole feeds, in order: for inputs such as a recurrent state, whose first axis is not the batch.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefc.choosing.division import divide
from edgefc.errors import UsageError
from edgefc.npz import read_npz
from edgefc.runtime.signature import TensorInfo, check_feeds, listed

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Given = str | os.PathLike[str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]

_BATCH = 8
_HELD = 5  # the last fifth is held out


@dataclass(frozen=True)
class Calibration:
    """Feeds in two parts.

    Attributes:
        fitting   feeds for the moments of the inputs of layers
        held      feeds for the comparison of outputs: the last fifth
        samples   the number of samples, or of feeds, in both
        batched   whether a feed has several samples along its first axis
    """

    fitting: Sequence[Feeds]
    held: Sequence[Feeds]
    samples: int
    batched: bool


def calibration_of(given: Given, inputs: Sequence[TensorInfo]) -> Calibration:
    """Checks calibration data against the inputs of a model, and cuts them into feeds.

    Raises:
        UsageError: the data cannot be read, do not match the inputs, or have fewer than 2 samples.
    """
    feeds = _feeds_of(given, inputs)
    held = max(1, len(feeds) // _HELD)
    fitting = range(len(feeds) - held)
    return _calibration(feeds, fitting, range(len(fitting), len(feeds)))


@dataclass(frozen=True)
class Divided(Calibration):
    """Feeds in three parts.

    Attributes:
        choosing   feeds on which plans are compared
        separate   whether the held-out feeds are used for nothing else
    """

    choosing: Sequence[Feeds]
    separate: bool


def divided(given: Given, inputs: Sequence[TensorInfo]) -> Divided:
    """As calibration_of(), with a third part of the data, on which a plan is chosen.

    Raises:
        UsageError: as calibration_of().
    """
    feeds = _feeds_of(given, inputs)
    parts = divide(len(feeds), feeds.step if isinstance(feeds, _Feeds) and not feeds.whole else 1)
    data = _calibration(feeds, parts.fitting, parts.held_out)
    return Divided(**vars(data), choosing=_Part(feeds, parts.choosing), separate=parts.separate)


def _calibration(feeds: Sequence[Feeds], fitting: Sequence[int], held: Sequence[int]) -> Calibration:
    batched = isinstance(feeds, _Feeds) and not feeds.whole
    samples = feeds.rows if isinstance(feeds, _Feeds) else len(feeds)
    return Calibration(_Part(feeds, fitting), _Part(feeds, held), samples, batched)


def _feeds_of(given: Given, inputs: Sequence[TensorInfo]) -> Sequence[Feeds]:
    """All feeds, at least 2.

    Raises:
        UsageError: as calibration_of().
    """
    if isinstance(given, (str, os.PathLike)):
        given = read_npz(Path(given))
    if isinstance(given, Mapping):
        arrays = {name: np.asarray(value) for name, value in given.items()}
        _check_names(arrays, inputs)
        extra = {arrays[info.name].ndim - len(info.shape) for info in inputs}
        if extra == {1}:
            feeds: Sequence[Feeds] = _Feeds(arrays, 1, whole=True)
        elif 0 in extra and all(arrays[info.name].ndim == len(info.shape) for info in inputs):
            feeds = _Feeds(arrays, _batch(inputs, arrays), whole=False)
        else:
            shapes = ", ".join(f"{info.name!r} {list(arrays[info.name].shape)}" for info in inputs)
            raise UsageError(
                f"the calibration data have {shapes}, and the inputs are {listed(inputs)}. Give arrays with the "
                "samples along the first axis, or with one more axis for whole feeds."
            )
    else:
        feeds = list(given)
    if len(feeds) < 2:
        raise UsageError(
            f"the calibration data have {len(feeds)} batches or feeds, and need 2 at least: one of them is held out "
            "to measure the change of the outputs. Give more samples."
        )
    for feed in (feeds[0], feeds[len(feeds) - 1]):
        check_feeds(feed, inputs)
    return feeds


class _Feeds(Sequence[Feeds]):
    """Feeds cut from arrays: `step` samples, or whole feeds, at a time. Inputs without axes are in every feed."""

    def __init__(self, arrays: Mapping[str, Array], step: int, *, whole: bool) -> None:
        sizes = {name: len(array) for name, array in arrays.items() if array.ndim}
        if len(set(sizes.values())) != 1:
            shown = ", ".join(f"{name!r} {size}" for name, size in sizes.items()) or "no array with an axis"
            raise UsageError(
                f"the calibration arrays have different numbers of samples: {shown}. Give the same number."
            )
        self.arrays, self.step, self.whole = arrays, step, whole
        self.rows = next(iter(sizes.values()))

    def __len__(self) -> int:
        return self.rows // self.step

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self.whole:
            return {name: array[index] for name, array in self.arrays.items()}
        cut = slice(index * self.step, (index + 1) * self.step)
        return {name: array[cut] if array.ndim else array for name, array in self.arrays.items()}


class _Part(Sequence[Feeds]):
    def __init__(self, feeds: Sequence[Feeds], at: Sequence[int]) -> None:
        self._feeds, self._at = feeds, at

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, index: Any) -> Any:
        return self._feeds[self._at[index]]

    def __iter__(self) -> Iterator[Feeds]:
        return (self._feeds[at] for at in self._at)


def _batch(inputs: Sequence[TensorInfo], arrays: Mapping[str, Array]) -> int:
    """The samples in a feed: as many as the model takes if it takes a fixed number, and at least two feeds."""
    fixed = {info.shape[0] for info in inputs if info.shape and isinstance(info.shape[0], int)}
    if fixed:
        return max(int(min(fixed)), 1)
    rows = min((len(array) for array in arrays.values() if array.ndim), default=1)
    return max(1, min(_BATCH, rows // _HELD))


def _check_names(arrays: Mapping[str, Array], inputs: Sequence[TensorInfo]) -> None:
    names = {info.name for info in inputs}
    if set(arrays) != names:
        shown = ", ".join(sorted(arrays)) or "no array"
        raise UsageError(f"the calibration data have {shown}, and the inputs are {listed(inputs)}. Give these names.")
