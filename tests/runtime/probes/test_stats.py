"""Statistics on recorded timings: nothing here reads a clock."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefc.runtime.probes import stats

# A matmul of 1024 on a laptop, microseconds: caches warm up, then a plateau.
WARMING = [91.0, 60.2, 52.4, 50.9, 50.1, 50.3, 50.2, 50.4]
NOISE = np.random.default_rng(1).normal(1.0, 0.01, (20, 50))
ROUNDS = (100_000 * NOISE).astype(int).tolist()
PROCESSES = [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4


def test_summary_of_known_numbers() -> None:
    found = stats.summary([10, 20, 30, 40, 1000])

    assert found.median_ns == 30
    assert found.p90_ns == pytest.approx(616)
    assert found.rel_mad == pytest.approx(10 / 30)
    assert found.p99_ns is None


def test_p99_needs_samples_beyond_it() -> None:
    assert stats.summary([5] * (stats.P99_NEEDS - 1)).p99_ns is None
    assert stats.summary([5] * stats.P99_NEEDS).p99_ns == 5


@given(st.lists(st.integers(1, 10**9), min_size=1))
def test_percentiles_are_in_order(samples: list[int]) -> None:
    found = stats.summary(samples)

    assert min(samples) <= found.median_ns <= found.p90_ns <= max(samples)
    assert found.rel_mad >= 0


def test_warming_up_is_not_settled_until_the_plateau() -> None:
    settled = [stats.settled(WARMING[:n]) for n in range(len(WARMING) + 1)]

    assert settled == [False] * 7 + [True, True]


def test_a_fall_slower_than_the_limit_is_seen_over_several_windows() -> None:
    """1.5 % a window is below the 2 % limit, and yet no plateau."""
    assert not stats.settled([100 * 0.985**n for n in range(20)])


def test_drift_is_the_second_half_against_the_first() -> None:
    assert stats.drift([[100] * 5] * 4 + [[110] * 5] * 4) == pytest.approx(0.10)
    assert stats.drift([[100, 90]]) == 0


def test_a_speed_is_found_under_drift_that_both_models_share() -> None:
    """The machine slows down by half; the speed of a half stays inside a narrow interval."""
    slowing = np.linspace(1, 1.5, 20)[:, None]
    first = (np.array(ROUNDS) * slowing).astype(int).tolist()
    second = (2 * np.array(ROUNDS[::-1]) * slowing).astype(int).tolist()

    found = stats.speed(second, first, [0] * 20)

    assert found.low is not None and found.high is not None
    assert found.low <= 0.5 <= found.high
    assert found.high - found.low < 0.005


def test_what_a_process_has_in_common_widens_the_interval() -> None:
    """Equal models, but each process is a few per cent off by where its weights lie: 1 stays inside."""
    placed = np.repeat([1.05, 0.99, 1.03, 0.98, 1.02], 4)[:, None]
    first = (np.array(ROUNDS) * placed).tolist()

    as_one = stats.speed(first, ROUNDS[::-1], [0] * 20)
    apart = stats.speed(first, ROUNDS[::-1], PROCESSES)

    assert apart.low is not None and apart.high is not None and as_one.low is not None and as_one.high is not None
    assert apart.low < 1 < apart.high
    assert apart.high - apart.low > as_one.high - as_one.low


def test_a_speed_of_few_rounds_has_no_interval() -> None:
    assert stats.speed([[1], [1]], [[2], [2]], [0, 1]) == (2.0, None, None)


def test_the_interval_can_fail() -> None:
    """Meta-test: a true difference of 5 % is not called equal."""
    found = stats.speed((np.array(ROUNDS) * 1.05).tolist(), ROUNDS[::-1], PROCESSES)

    assert found.high is not None and found.high < 1.0
