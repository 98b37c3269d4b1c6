"""Quantised weights against brute force, textbook GPTQ and planted grids."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefc.errors import UsageError
from edgefc.fitting.gptq import gptq, improved
from edgefc.fitting.moments import Moments
from edgefc.fitting.quantized import QuantizedFit, fit_quantized
from edgefc.fitting.rotation import block_of, rotate
from edgefc.fitting.rounding import code_of, nearest, search
from edgefc.fitting.solve import fit
from edgefc.plan import Int2, Int3, Int4, Int8
from tests.fitting.cases import SHAPES, awkward_moments, cost, moments_of, weight_of

BITS = 2, 3, 4, 8


def inputs_apart(n: int) -> Moments:
    """Moments with identity covariance, to rounding error."""
    moments = Moments.empty(n)
    moments.add(np.concatenate([np.eye(n), -np.eye(n)]) * np.sqrt(n))
    return moments


def covariance_of(n: int) -> np.ndarray:
    c = moments_of(n).covariance
    return c + 0.01 * np.trace(c) / n * np.eye(n)


def naive_gptq(weight: np.ndarray, c: np.ndarray, bits: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Optimal brain surgery, one input at a time, with the inverse of what remains of C. weight (K, m)."""
    w = weight.copy()
    codes, scales = np.zeros_like(w), np.zeros((len(w) // group, w.shape[1]), np.float16)
    for j in range(len(w)):
        inverse = np.linalg.inv(c[j:, j:])
        if j % group == 0:
            left = [1 / np.linalg.inv(c[i:, i:])[0, 0] for i in range(j, j + group)]
            scales[j // group] = search(w[j : j + group], np.array(left)[:, None], bits)
        scale = scales[j // group].astype(np.float64)
        codes[j] = code_of(w[j], scale, bits)
        w[j:] -= np.outer(inverse[:, 0] / inverse[0, 0], w[j] - codes[j] * scale)
    return codes, scales


@pytest.mark.parametrize(("n", "group"), [(12, 4), (80, 40), (7, 1)])
@pytest.mark.parametrize("bits", BITS)
def test_gptq_is_optimal_brain_surgery(n: int, group: int, bits: int) -> None:
    w, c = weight_of(n, 6), covariance_of(n)
    codes, scales = gptq(w, c, bits, group)
    naive, naive_scales = naive_gptq(w, c, bits, group)
    np.testing.assert_array_equal(scales, naive_scales)
    np.testing.assert_array_equal(codes, naive)


def error_of(w: np.ndarray, c: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    d = w - codes * np.repeat(scales.astype(np.float64), len(w) // len(scales), axis=0)
    return np.einsum("im,ij,jm->m", d, c, d)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_improvement_ends_where_no_single_code_helps(bits: int) -> None:
    w, c = weight_of(80, 5), covariance_of(80)
    start = gptq(w, c, bits, 40)
    codes, scales = improved(w, c, bits, *start, 50)
    found = error_of(w, c, codes, scales)
    assert (found <= error_of(w, c, *start)).all() and found.sum() < 0.98 * error_of(w, c, *start).sum()
    half = 2 ** (bits - 1)
    for j, step in product(range(80), (-1, 1)):
        moved = codes.copy()
        moved[j] = np.clip(moved[j] + step, -half, half - 1)
        assert (error_of(w, c, moved, scales) >= found * (1 - 1e-9)).all()


def test_near_the_best_of_all_codes() -> None:
    w, c = weight_of(5, 40), covariance_of(5)
    codes, scales = improved(w, c, 2, *gptq(w, c, 2, 5), 4)
    every = np.array(list(product((-2, -1, 0, 1), repeat=5)), float)
    d = w.T[:, None] - every * scales[0].astype(float)[:, None, None]
    best = np.einsum("mki,ij,mkj->mk", d, c, d).min(1)
    found = error_of(w, c, codes, scales)
    assert (found >= best * (1 - 1e-9)).all()
    assert found.sum() < 1.25 * best.sum()
    assert error_of(w, c, *nearest(w, np.ones(5), 2, 5)).sum() > 1.5 * best.sum()


@pytest.mark.parametrize("bits", BITS)
def test_the_scale_is_near_the_best_of_all_float16(bits: int) -> None:
    w, importance = weight_of(16, 4), np.random.default_rng(1).uniform(0.1, 2, (16, 1))
    found = search(w, importance, bits)

    def error(scales: np.ndarray) -> np.ndarray:
        s = scales.astype(np.float64)
        return (importance * (w - code_of(w, s, bits) * s) ** 2).sum(0)

    every = np.linspace(np.abs(w).max() / 2**bits / 3, np.abs(w).max() * 1.1, 4000).astype(np.float16)
    best = np.min([error(np.full(4, sign * s)) for s in every for sign in (1, -1)], axis=0)
    assert (error(found) <= best * {2: 1.1, 3: 1.1, 4: 1.1, 8: 1.6}[bits]).all()


def planted(bits: int, rows: int, width: int, group: int) -> np.ndarray:
    """Weights on a grid with scales of both signs. Each group reaches the end of the grid."""
    rng, half = np.random.default_rng(bits), 2 ** (bits - 1)
    codes = rng.integers(-half, half, (rows, width))
    codes[:, ::group] = -half
    scales = (rng.uniform(0.5, 2, (rows, width // group)) * rng.choice([-1, 1], (rows, width // group))) / half
    return codes * np.repeat(scales.astype(np.float16).astype(np.float64), group, axis=1)


@pytest.mark.parametrize("bits", BITS)
def test_weights_on_the_grid_are_recovered(bits: int) -> None:
    w = planted(bits, 6, 40, 8)
    for moments in awkward_moments(40).values():
        np.testing.assert_array_equal(fit_quantized(w, None, moments, bits, 8).dense(), w)


@pytest.mark.parametrize("bits", BITS)
def test_rotated_weights_on_the_grid_are_recovered(bits: int) -> None:
    grid = planted(bits, 6, 32, 8)
    w = grid @ rotate(np.eye(32), 5, 32).T
    for moments in (None, moments_of(32)):
        np.testing.assert_allclose(fit_quantized(w, None, moments, bits, 8, seed=5).dense(), w, atol=1e-12)


def test_a_planted_correction_is_found() -> None:
    w = planted(4, 24, 32, 8) + weight_of(24, 1) @ weight_of(1, 32, 5)
    moments = inputs_apart(32)
    errors = [cost(w, fit_quantized(w, np.zeros(len(w)), moments, 4, 8, rank=rank).dense(), moments) for rank in (0, 1)]
    assert errors[1] < errors[0] / 2


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(SHAPES), st.sampled_from(BITS), st.sampled_from([3, 16]), st.sampled_from([None, 0, 9]),
    st.sampled_from([0, 1, 3]), st.sampled_from(["gptq", "nearest"]),
    st.sampled_from(["none", "many", "few", "dead", "still"]),
)  # fmt: skip
def test_any_layer(
    shape: tuple[int, int], bits: int, group: int, seed: int | None, rank: int, method: str, inputs: str
) -> None:
    (m, n), moments = shape, awkward_moments(shape[1])[inputs]
    w, bias = weight_of(m, n), weight_of(m, 1)[:, 0]
    found = fit_quantized(w, bias, moments, bits, group, seed, rank, method)
    width = found.codes.shape[1]
    unit = group if seed is None else math.lcm(group, block_of(n))
    assert width == -(-n // unit) * unit
    assert found.codes.dtype == np.uint8 and found.codes.max() < 2**bits
    assert found.scales.dtype == np.float16 and found.scales.shape == (m, width // group)
    assert found.down.dtype == found.up.dtype == np.float16 and found.down.shape[0] == min(rank, m, n)
    assert found.stored_bits == bits * m * width + 16 * (found.scales.size + found.down.size + found.up.size)

    values = (found.codes - 2.0 ** (bits - 1)) * np.repeat(found.scales.astype(float), group, axis=1)
    x = np.random.default_rng(3).normal(size=(4, n))
    padded = np.pad(x, ((0, 0), (0, width - n)))
    turned = padded if seed is None else rotate(padded, seed, block_of(n))
    expected = turned @ values.T + x @ found.down.astype(float).T @ found.up.astype(float).T
    np.testing.assert_allclose(x @ found.dense().T, expected, atol=1e-9)
    assert seed is not None or (found.codes[:, n:] == 2 ** (bits - 1)).all()

    assert found.bias is not None
    if moments is not None:
        plain = fit_quantized(w, bias, None, bits, group, seed, rank, method)
        assert cost(w, found.dense(), moments) <= cost(w, plain.dense(), moments) * (1 + 1e-6) + 1e-12
        np.testing.assert_allclose(found.dense() @ moments.mean + found.bias, w @ moments.mean + bias, atol=1e-9)


def test_the_nearest_values_are_taken_where_they_are_better() -> None:
    w, moments, c = weight_of(300, 6), moments_of(6), covariance_of(6)
    codes, scales = gptq(w.T.copy(), c, 8, 6)
    others, plain = (codes * scales).T, fit_quantized(w, None, None, 8, 6).dense()
    costs = [[cost(w[[k]], each[[k]], moments) for each in (others, plain)] for k in range(300)]
    worse = [k for k in range(300) if costs[k][0] > 1.01 * costs[k][1]]
    assert worse
    for k in worse[:5]:
        found = fit_quantized(w[[k]], [0], moments, 8, 6)
        assert cost(w[[k]], found.dense(), moments) <= costs[k][1] * (1 + 1e-9)


def test_gptq_and_rotation_help_on_correlated_inputs() -> None:
    w, moments = weight_of(16, 64), moments_of(64, 500)

    def of(method: str, seed: int | None = None, rank: int = 0) -> float:
        return cost(w, fit_quantized(w, np.zeros(len(w)), moments, 3, 32, seed, rank, method).dense(), moments)

    assert of("gptq") < 0.7 * of("nearest")
    assert of("gptq", 0) < of("gptq")
    assert of("gptq", 0, 8) < 0.8 * of("gptq", 0)


def test_zeros_and_extreme_sizes() -> None:
    moments = moments_of(6)
    for bits in BITS:
        assert not fit_quantized(np.zeros((3, 6)), None, moments, bits, 4, seed=1, rank=1).dense().any()
        tiny = fit_quantized(weight_of(3, 6) * 1e-9, None, moments, bits, 4).dense()
        assert np.isfinite(tiny).all()
        assert np.isfinite(fit_quantized(weight_of(3, 6) * 1e4, None, moments, bits, 4).dense()).all()
    with pytest.raises(UsageError, match="2 bits with scales in float16 hold numbers up to 65504"):
        fit_quantized(np.full((2, 4), 1e5), None, None, 2, 4)


def test_refusals() -> None:
    w = weight_of(3, 5)
    for settings_, text in (
        ({"bits": 5, "group": 4}, "2, 3, 4, 8 bits, got bits=5"),
        ({"bits": 4, "group": 0}, "group=0"),
        ({"bits": 4, "group": 4, "rank": -1}, "got -1"),
        ({"bits": 4, "group": 4, "method": "best"}, "method='best'"),
    ):
        with pytest.raises(UsageError, match=text):
            fit_quantized(w, None, None, **settings_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("to", "bits", "group", "seed", "rank"),
    [
        (Int8(), 8, 128, None, 0),
        (Int4(), 4, 32, 11, 0),
        (Int4(group=64, rotate=False), 4, 64, None, 0),
        (Int3(), 3, 128, 11, 0),
        (Int2(rank=3), 2, 32, 11, 3),
    ],
)
def test_configurations(to: Int8 | Int4 | Int3 | Int2, bits: int, group: int, seed: int | None, rank: int) -> None:
    w, moments = weight_of(8, 40), moments_of(40)
    found, expected = fit(to, w, None, moments, 11), fit_quantized(w, None, moments, bits, group, seed, rank)
    assert isinstance(found, QuantizedFit) and (found.bits, found.group, found.seed) == (bits, group, seed)
    np.testing.assert_array_equal(found.dense(), expected.dense())
