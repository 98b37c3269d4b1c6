"""Low rank against the singular values of the whitened weight."""

import numpy as np
import pytest
from scipy.linalg import sqrtm, svdvals

from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.error import output_error
from edgefc.fitting.low_rank import fit_low_rank
from edgefc.fitting.moments import Moments
from edgefc.fitting.solve import fit
from edgefc.plan import LowRank
from tests.fitting.cases import SHAPES, awkward_moments, cost, moments_of, weight_of


@pytest.mark.parametrize("shape", SHAPES)
def test_the_cost_is_that_of_the_singular_values_left_out(shape: tuple[int, int]) -> None:
    w, moments = weight_of(*shape), moments_of(shape[1])
    whitened = svdvals(w @ np.real(sqrtm(moments.covariance)))
    for rank in {1, min(shape) // 2 or 1, min(shape)}:
        found = fit_low_rank(w, np.zeros(len(w)), moments, rank)
        assert found.down.shape == (rank, shape[1]) and found.up.shape == (shape[0], rank)
        assert cost(w, found.dense(), moments) == pytest.approx(
            (whitened[rank:] ** 2).sum(), rel=1e-6, abs=1e-9 * (whitened**2).sum()
        )
        plain = fit_low_rank(w, None, None, rank).dense()
        assert ((w - plain) ** 2).sum() == pytest.approx((svdvals(w)[rank:] ** 2).sum(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_never_worse_than_plain_and_the_mean_output_stays(shape: tuple[int, int]) -> None:
    w, bias = weight_of(*shape), weight_of(shape[0], 1)[:, 0]
    for moments in awkward_moments(shape[1]).values():
        found = fit_low_rank(w, bias, moments, 1)
        assert np.isfinite(found.dense()).all() and found.bias is not None
        if moments is None:
            np.testing.assert_array_equal(found.bias, bias)
            continue
        plain = fit_low_rank(w, None, None, 1).dense()
        assert cost(w, found.dense(), moments) <= cost(w, plain, moments) * (1 + 1e-9) + 1e-12
        np.testing.assert_allclose(found.dense() @ moments.mean + found.bias, w @ moments.mean + bias, atol=1e-9)


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (7, 13)])
def test_planted_ranks_are_recovered(shape: tuple[int, int]) -> None:
    w = weight_of(shape[0], 3) @ np.diag([1, 1e-2, 1e-4]) @ weight_of(3, shape[1], 2)
    for moments in awkward_moments(shape[1]).values():
        np.testing.assert_allclose(fit_low_rank(w, None, moments, 3).dense(), w, atol=1e-9)


def test_pairs_are_balanced() -> None:
    found = fit_low_rank(weight_of(12, 40), None, moments_of(40), 5)
    np.testing.assert_allclose(np.linalg.norm(found.up, axis=0), np.linalg.norm(found.down, axis=1))


def test_zero_weights() -> None:
    for moments in awkward_moments(5).values():
        assert not fit_low_rank(np.zeros((3, 5)), None, moments, 2).dense().any()


@pytest.mark.parametrize(("storage", "bits", "bound"), [("half", 16, 1e-3), ("int8", 8, 1e-2)])
def test_stored_pairs_are_near_the_pair(storage: str, bits: int, bound: float) -> None:
    w, bias, moments = weight_of(32, 64), weight_of(32, 1)[:, 0], moments_of(64)
    exact, found = (fit(LowRank(rank=16, storage=each), w, bias, moments) for each in (None, storage))
    assert output_error(exact.dense(), found.dense(), moments.covariance) < bound
    assert bits * (32 + 64) * 16 <= found.stored_bits <= 32 * (32 + 64) * 16
    np.testing.assert_allclose(found.dense() @ moments.mean + found.bias, w @ moments.mean + bias, atol=1e-9)
    np.testing.assert_array_equal(found.up.bias, found.bias)  # type: ignore[attr-defined]


def test_refusals() -> None:
    w = weight_of(3, 5)
    for rank in (0, 4):
        with pytest.raises(ShapeError, match=f"from 1 to 3, got {rank}"):
            fit_low_rank(w, None, None, rank)
    with pytest.raises(UsageError, match="no samples"):
        fit_low_rank(w, None, Moments.empty(5), 1)
    with pytest.raises(ShapeError, match="moments of 5 inputs, got 4"):
        fit_low_rank(w, None, moments_of(4), 1)
    with pytest.raises(ShapeError, match="needs a bias"):
        fit_low_rank(w, np.zeros(4), None, 1)
    with pytest.raises(UsageError, match="NaN or infinite"):
        fit_low_rank(w * np.nan, None, None, 1)
    with pytest.raises(ShapeError):
        fit_low_rank(np.zeros((0, 3)), None, None, 1)
