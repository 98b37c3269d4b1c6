"""The target of the sequential refit against ridge regression, and float16 storage."""

import numpy as np
import pytest

from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.half import fit_half
from edgefc.fitting.low_rank import fit_low_rank
from edgefc.fitting.sequential import PairedMoments, target
from edgefc.fitting.solve import fit
from edgefc.plan import Half, Keep
from tests.fitting.cases import moments_of, weight_of

RNG = np.random.default_rng(0)


def pairs(count: int = 300, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    x = RNG.normal(size=(count, n)) + 2
    return x, x @ (np.eye(n) + 0.2 * RNG.normal(size=(n, n))) + 0.1 * RNG.normal(size=(count, n)) - 1


def paired(x: np.ndarray, z: np.ndarray, cut: int = 100) -> PairedMoments:
    found = PairedMoments(x.shape[1])
    found.add(x[:cut], z[:cut])
    found.add(x[cut:], z[cut:])
    return found


def test_the_target_is_ridge_regression_towards_the_weight() -> None:
    (x, z), w, bias = pairs(), weight_of(4, 6), weight_of(4, 1)[:, 0]
    moved, offset = target(w, bias, paired(x, z), ridge=0.05)
    zc, yc = z - z.mean(0), (x - x.mean(0)) @ w.T
    level = 0.05 * np.mean(zc.var(0)) * len(z)
    stacked = np.concatenate([zc, np.sqrt(level) * np.eye(6)])
    right = np.concatenate([yc, np.sqrt(level) * w.T])
    np.testing.assert_allclose(moved, np.linalg.lstsq(stacked, right)[0].T, atol=1e-9)
    np.testing.assert_allclose((z @ moved.T + offset).mean(0), (x @ w.T + bias).mean(0), atol=1e-9)


def test_equal_inputs_leave_the_weight() -> None:
    x, w = pairs()[0], weight_of(4, 6)
    moved, offset = target(w, None, paired(x, x))
    np.testing.assert_allclose(moved, w, atol=1e-12)
    assert offset is None


def test_a_linear_change_of_the_inputs_is_undone() -> None:
    x, w, change = pairs()[0], weight_of(4, 6), weight_of(6, 6, 3) + 3 * np.eye(6)
    moved, _ = target(w, None, paired(x, x @ change.T), ridge=0)
    np.testing.assert_allclose(moved @ change, w, atol=1e-9)


def test_the_fit_of_the_target_is_nearer_to_the_outputs() -> None:
    (x, z), w, bias = pairs(), weight_of(4, 6), np.zeros(4)
    both = paired(x, z)
    moved, offset = target(w, bias, both)
    fits = fit_low_rank(w, bias, both.moments, 2), fit_low_rank(moved, offset, both.moments, 2)
    errors = [((z @ each.dense().T + each.bias - x @ w.T) ** 2).sum() for each in fits]
    assert errors[1] < 0.9 * errors[0]


def test_inputs_that_never_vary() -> None:
    x = np.ones((5, 3))
    moved, _ = target(weight_of(2, 3), None, paired(x, x, 2))
    np.testing.assert_allclose(moved, weight_of(2, 3))


def test_refusals() -> None:
    found = PairedMoments(3)
    with pytest.raises(UsageError, match="no samples"):
        target(weight_of(2, 3), None, found)
    for x, z, error in (
        (np.zeros((2, 3)), np.zeros((3, 3)), ShapeError),
        (np.zeros((2, 4)), np.zeros((2, 3)), ShapeError),
        (np.zeros((2, 3)), np.full((2, 3), np.nan), UsageError),
    ):
        with pytest.raises(error):
            found.add(x, z)
    found.add(np.zeros((0, 3)), np.zeros((0, 3)))
    assert found.moments.count == 0


def test_half() -> None:
    w, bias, moments = weight_of(4, 6), weight_of(4, 1)[:, 0], moments_of(6)
    found = fit(Half(), w, bias, moments)
    np.testing.assert_array_equal(found.dense(), w.astype(np.float16))
    np.testing.assert_allclose(found.dense() @ moments.mean + found.bias, w @ moments.mean + bias, atol=1e-12)
    assert found.stored_bits == 16 * 24
    with pytest.raises(UsageError, match="up to 65504, and a weight is 70000"):
        fit_half(np.full((2, 2), 7e4))


def test_a_configuration_without_a_fit_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no fit serves Keep for a linear layer\. Choose one of: .*Int4"):
        fit(Keep(), weight_of(2, 2))
