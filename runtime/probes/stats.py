"""Statistics of timings. All functions are pure, so that tests can use recorded timings.

    median, p90, p99   percentiles, linear between samples; p99 needs P99_NEEDS samples, so that ten are above it
    rel_mad            median absolute deviation from the median, divided by the median
    speed              median of the per-round ratios, with a 95 % bootstrap interval over processes and rounds
"""  # fmt: skip

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rounds = Sequence[Sequence[int]]  # the samples of each round

P99_NEEDS = 1000
SPEED_NEEDS = 5  # rounds; a bootstrap interval of fewer means nothing
_RESAMPLES = 2000


class Summary(NamedTuple):
    """Times in nanoseconds; rel_mad is a ratio. p99_ns is None if there are fewer than P99_NEEDS samples."""

    median_ns: float
    p90_ns: float
    p99_ns: float | None
    rel_mad: float


class Interval(NamedTuple):
    """A median with its interval. low and high are None if there are fewer than SPEED_NEEDS rounds."""

    median: float
    low: float | None
    high: float | None


def summary(samples_ns: Sequence[int]) -> Summary:
    """The statistics of one or more samples."""
    values = np.asarray(samples_ns, np.float64)
    median, p90, p99 = np.percentile(values, [50, 90, 99])
    rel_mad = float(np.median(np.abs(values - median)) / median) if median else 0.0
    return Summary(float(median), float(p90), float(p99) if len(values) >= P99_NEEDS else None, rel_mad)


def settled(medians: Sequence[float], *, last: int = 3, within: float = 0.02) -> bool:
    """Whether the medians of successive windows have stopped falling.

    They have if none of the last `last` medians is more than the ratio `within` below the lowest earlier one.
    """
    if len(medians) <= last:
        return False
    return min(medians[-last:]) >= (1 - within) * min(medians[:-last])


def drift(rounds_ns: Rounds) -> float:
    """The median of the second half of the rounds divided by the median of the first half, minus 1. 0 for one round."""
    half = len(rounds_ns) // 2
    if not half:
        return 0.0
    first, second = (np.concatenate([np.asarray(r) for r in part]) for part in (rounds_ns[:half], rounds_ns[-half:]))
    return float(np.median(second) / np.median(first)) - 1


def speed(rounds_ns: Rounds, first_ns: Rounds, processes: Sequence[int]) -> Interval:
    """How many times as fast as the first model a model is, timed in the same rounds. Above 1 is faster.

    `processes` has the process of each round. The bootstrap draws processes, then rounds of each process. The addresses
    of the weights differ between processes and change a ratio by some per cent, which one process cannot show.
    """
    ratios = np.array([np.median(first) / np.median(own) for own, first in zip(rounds_ns, first_ns)])
    middle = float(np.median(ratios))
    if len(ratios) < SPEED_NEEDS:
        return Interval(middle, None, None)
    groups = [ratios[np.asarray(processes) == process] for process in sorted(set(processes))]
    rng = np.random.default_rng(0)
    low, high = np.percentile([_resampled(groups, rng) for _ in range(_RESAMPLES)], [2.5, 97.5])
    return Interval(middle, min(float(low), middle), max(float(high), middle))


def _resampled(groups: Sequence[Floats], rng: np.random.Generator) -> float:
    drawn = (groups[i] for i in rng.integers(len(groups), size=len(groups)))
    return float(np.median(np.concatenate([group[rng.integers(len(group), size=len(group))] for group in drawn])))
