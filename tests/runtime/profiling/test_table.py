"""The table for people."""

import pytest

from edgefc.runtime.profiling.table import bytes_text, time_text


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0 ns"), (950, "950 ns"), (5_180, "5.18 us"), (50_700, "50.7 us"), (999_600, "1000 us"), (2.5e9, "2.50 s")],
)
def test_times_have_three_digits(ns: float, text: str) -> None:
    assert time_text(ns) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (-45_000, "-45.0 kB"), (67_100_000, "67.1 MB")])
def test_bytes_are_in_powers_of_ten(count: int, text: str) -> None:
    assert bytes_text(count) == text
