"""Moments of inputs against numpy's covariance in one piece."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.moments import Moments, TokenCounts

RNG = np.random.default_rng(0)


def of(*parts: np.ndarray) -> Moments:
    moments = Moments.empty(parts[0].shape[-1])
    for part in parts:
        moments.add(part)
    return moments


def assert_moments_of(moments: Moments, rows: np.ndarray, rtol: float = 1e-12) -> None:
    x = rows.reshape(-1, rows.shape[-1]).astype(np.float64)
    assert moments.count == len(x)
    scale = np.abs(x).max() + 1e-300
    np.testing.assert_allclose(moments.mean, x.mean(0), rtol=rtol, atol=rtol * scale)
    expected = np.cov(x.T, bias=True).reshape(x.shape[1], x.shape[1])
    np.testing.assert_allclose(moments.covariance, expected, rtol=1e-9, atol=rtol * (np.diag(expected).max() + 1e-300))
    np.testing.assert_allclose(moments.second, x.T @ x / len(x), rtol=1e-9, atol=rtol * scale**2)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 7), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_shards_give_what_one_pass_gives(rows: int, n: int, cut: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(rows, n)) + 3
    assert_moments_of(of(x[:cut], x[cut:]), x)
    assert_moments_of(of(x[:cut]).merge(of(x[cut:])), x)


def test_many_rows_of_any_shape_and_dtype() -> None:
    x = RNG.normal(size=(3, 2000, 5))
    assert_moments_of(of(x), x)
    for dtype in (np.float16, np.float32, np.int8, bool):
        assert_moments_of(of(x.astype(dtype)), x.astype(dtype))
    assert_moments_of(of(x[0, 0]), x[0, :1])


def test_a_large_mean_costs_no_accuracy() -> None:
    x = RNG.normal(size=(1000, 3))
    far = (x * 2**-4).astype(np.float32).astype(np.float64) + 2.0**24
    found = of(far[:10], far[10:]).covariance
    np.testing.assert_allclose(found, np.cov((far - 2.0**24).T, bias=True), atol=1e-9)  # of 4e-3


def test_no_rows() -> None:
    empty = of(np.zeros((0, 3)))
    assert empty.count == 0 and not empty.covariance.any() and not empty.second.any()
    x = RNG.normal(size=(4, 3))
    assert_moments_of(empty.merge(of(x)), x)
    assert_moments_of(of(x).merge(empty), x)
    assert Moments.from_arrays(empty.arrays()).count == 0


def test_arrays_of_several_processes_are_added() -> None:
    x = RNG.normal(size=(50, 4)) + 100
    shift = x[0]
    parts = [of(x[:20]).arrays(shift), of(x[20:]).arrays(shift)]
    total = {name: parts[0][name] + parts[1][name] for name in parts[0]} | {"shift": shift}
    assert_moments_of(Moments.from_arrays(total), x)
    assert_moments_of(Moments.from_arrays(of(x).arrays()), x)
    direct = of(x).arrays(np.zeros(4))
    np.testing.assert_allclose(direct["total"], x.sum(0))
    np.testing.assert_allclose(direct["outer"], x.T @ x)


def test_moments_through_a_matrix() -> None:
    x, a = RNG.normal(size=(30, 4)) + 1, RNG.normal(size=(2, 4))
    assert_moments_of(of(x).through(a), x @ a.T)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_values_out_of_range_are_refused_and_nothing_is_added(bad: float) -> None:
    x = RNG.normal(size=(6, 3))
    moments = of(x)
    broken = x.copy()
    broken[4, 1] = bad
    with pytest.raises(UsageError, match=r"NaN or infinite|at most 1e\+100"):
        moments.add(broken)
    assert_moments_of(moments, x)


def test_other_inputs_are_refused() -> None:
    moments = Moments.empty(3)
    with pytest.raises(ShapeError, match=r"3 numbers along the last axis, got the shape \(2, 4\)"):
        moments.add(np.zeros((2, 4)))
    with pytest.raises(ShapeError):
        moments.add(np.float32(1))
    with pytest.raises(UsageError, match="real numbers, got complex128"):
        moments.add(np.zeros((2, 3), complex))
    with pytest.raises(ShapeError, match="3 and of 4"):
        moments.merge(Moments.empty(4))


@pytest.mark.parametrize(
    "change",
    [
        {"outer": np.zeros((2, 2))},
        {"total": np.full(3, np.nan)},
        {"count": -1},
        {"count": "x"},
        {"shift": np.zeros((3, 1))},
    ],
)
def test_arrays_that_are_not_moments_are_refused(change: dict) -> None:
    arrays = of(RNG.normal(size=(5, 3))).arrays()
    with pytest.raises(UsageError):
        Moments.from_arrays(arrays | change)
    del arrays["outer"]
    with pytest.raises(UsageError, match="outer"):
        Moments.from_arrays(arrays)


def test_token_counts() -> None:
    first, second = TokenCounts.empty(5), TokenCounts.empty(5)
    first.add([[0, 1], [1, -1]])
    second.add(np.array([4, 4], np.uint8))
    second.add(np.zeros((0, 2)))
    assert first.merge(second).counts.tolist() == [1, 2, 0, 0, 3]
    for bad in ([5], [-6], [0.5]):
        with pytest.raises(UsageError):
            first.add(bad)
    assert first.counts.tolist() == [1, 2, 0, 0, 1]
    with pytest.raises(ShapeError):
        first.merge(TokenCounts.empty(4))
