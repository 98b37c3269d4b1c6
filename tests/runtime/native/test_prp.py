"""The native kernel of PRPLinear in onnxruntime: each variant against float64, hostile models."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgefc import generator, testing
from tests.support import native_models
from tests.support.native_models import CPUS, Array, Prp, inputs, run, session

SIZES = ((1, 1), (2, 3), (7, 5), (31, 33), (37, 17), (64, 64), (300, 401), (129, 65))
BATCHES = (0, 1, 2, 3, 5, 8, 9, 64, 65)


def assert_close(actual: Array, expected: Array) -> None:
    testing.assert_close(actual, expected, nmse=1e-12, what="native")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return native_models.library(tmp_path_factory)


@pytest.fixture(params=CPUS)
def cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, library: str) -> str:
    return native_models.choose_cpu(request.param, monkeypatch, library)


# ---- values


@pytest.mark.parametrize("distribution", generator.CODEBOOKS)
def test_every_size_and_batch_against_float64(cpu: str, library: str, distribution: str) -> None:
    for n, m in SIZES:
        layer = Prp(n, m, distribution)
        kernel = session(layer.model(), library)
        for rows in BATCHES:
            x = inputs(rows, n)
            y = run(kernel, x)
            assert y.shape == (rows, m) and y.dtype == np.float32
            expected = layer.expected(x)
            error, size = np.square(y - expected).sum(), np.square(expected).sum()
            assert error <= 1e-12 * size, f"{n} -> {m}, batch {rows}: {error / size:.1e}"


@pytest.mark.parametrize("distribution", generator.CODEBOOKS)
def test_long_rows(cpu: str, library: str, distribution: str) -> None:
    """Float32 sums of thousands of products, one after the other, would be off by more."""
    layer = Prp(9000, 40, distribution)
    kernel = session(layer.model(), library)
    for rows in (1, 9):
        x = inputs(rows, 9000)
        assert_close(run(kernel, x), layer.expected(x))


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_every_seed(cpu: str, library: str, seed: int) -> None:
    layer = Prp(40, 24, "gaussian", seed)

    assert_close(run(session(layer.model(), library), inputs(3, 40)), layer.expected(inputs(3, 40)))


def test_a_codebook_of_its_own(cpu: str, library: str) -> None:
    """256 different levels without order, and 17 runs, one more than a vector can hold."""
    random = np.random.default_rng(0)
    for levels in (random.standard_normal(256), np.repeat(random.standard_normal(17), 16)[-256:], np.ones(256)):
        layer = Prp(50, 30, "uniform", codebook=[float(level) for level in levels.astype(np.float32)])
        codes = np.searchsorted(
            np.float32(generator.codebook("uniform").levels), generator.matrix(7, 30, 50, "uniform")
        )
        p = levels.astype(np.float32)[codes].astype(np.float64) / np.sqrt(50)
        x, w = inputs(9, 50), layer.weights
        expected = (x.astype(np.float64) * w["in_scale"]) @ p.T * w["out_scale"] + w["bias"]
        assert_close(run(session(layer.model(), library), x), expected)


@pytest.mark.parametrize("levels", [(0.25, -3.0), (2.0, 2.0), (0.0, 1.0), (-1.0, 1.0)])
def test_two_levels_of_any_kind(cpu: str, library: str, levels: tuple[float, float]) -> None:
    layer = Prp(300, 50, codebook=list(levels))
    signs = generator.matrix(7, 50, 300, "rademacher")
    for rows in (1, 4, 35):
        x, w = inputs(rows, 300), layer.weights
        p = np.where(signs > 0, levels[0], levels[1]) / np.sqrt(300)
        expected = (x.astype(np.float64) * w["in_scale"]) @ p.T * w["out_scale"] + w["bias"]
        assert_close(run(session(layer.model(), library), x), expected)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("power", [-36, -30, 0, 30, 37])
def test_inputs_of_very_different_sizes(cpu: str, library: str, rows: int, power: int) -> None:
    """A giant among small ones, sums near the ends of float32, and blocks of zeros."""
    layer = Prp(200, 40)
    layer.weights["bias"][:] = 0
    x = inputs(rows, 200)
    x[:, 64:128] = 0
    x[:, 3] = 1e4
    x *= np.float32(10.0) ** np.float32(power - 4)

    y = run(session(layer.model(), library), x)

    testing.assert_close(y, layer.expected(x), nmse=1e-12 if power > -36 else 1e-6, what="native")


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian", "ternary", "uniform"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_goes_where_a_dense_layer_sends_it(
    cpu: str, library: str, distribution: str, value: float
) -> None:
    layer = Prp(40, 24, distribution)
    for rows in (1, 9):
        x = inputs(rows, 40)
        x[0, 3] = value
        with np.errstate(invalid="ignore"):
            expected = layer.expected(x)
        np.testing.assert_array_equal(np.isnan(run(session(layer.model(), library), x)), np.isnan(expected))


def test_any_leading_axes(library: str) -> None:
    layer = Prp(24, 10)
    kernel, x = session(layer.model(), library), inputs(30, 24)

    assert_close(run(kernel, x.reshape(2, 3, 5, 24)).reshape(30, 10), layer.expected(x))
    assert run(kernel, x[0]).shape == (10,)
    assert run(kernel, x[:0].reshape(4, 0, 24)).shape == (4, 0, 10)


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_threads_change_no_bit(library: str, distribution: str) -> None:
    """onnxruntime's threads within a run, and several runs of one session at the same time."""
    layer, x = Prp(700, 900, distribution), inputs(33, 700)
    native_models.check_threads(layer.model(), library, x)


# ---- int8 activations


@pytest.mark.parametrize("distribution", generator.CODEBOOKS)
def test_int8_activations_round_each_row_and_nothing_else(cpu: str, library: str, distribution: str) -> None:
    for n, m in ((1, 1), (7, 5), (64, 33), (300, 401)):
        layer = Prp(n, m, distribution)
        kernel = session(layer.model(), library, activations="int8")
        for rows in (1, 2, 5, 33):
            x = inputs(rows, n)
            error = np.square(run(kernel, x) - layer.expected(layer.rounded(x))).sum()
            assert error <= 1e-12 * np.square(layer.expected(x)).sum(), f"{n} -> {m}, batch {rows}"


def test_int8_activations_with_levels_of_any_kind(cpu: str, library: str) -> None:
    layer, x = Prp(300, 50, codebook=[0.25, -3.0]), inputs(5, 300)
    p = np.where(generator.matrix(7, 50, 300, "rademacher") > 0, 0.25, -3.0) / np.sqrt(300)
    u = layer.rounded(x) * layer.weights["in_scale"]

    y = run(session(layer.model(), library, activations="int8"), x)

    assert_close(y, u @ p.T * layer.weights["out_scale"] + layer.weights["bias"])


@pytest.mark.parametrize("n", [64, 384, 1024, 4096])
def test_the_error_of_int8_activations(library: str, n: int) -> None:
    """What Session's docstring states, for Gaussian inputs."""
    layer, x = Prp(n, 256), inputs(16, n)
    layer.weights["in_scale"][:] = 1
    layer.weights["bias"][:] = 0
    expected = layer.expected(x)

    error = np.square(run(session(layer.model(), library, activations="int8"), x) - expected).sum()

    assert 1e-5 < error / np.square(expected).sum() < 1e-4


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian", "ternary", "uniform"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_nan_with_int8(cpu: str, library: str, distribution: str, value: float) -> None:
    layer = Prp(40, 24, distribution)
    kernel = session(layer.model(), library, activations="int8")
    for rows in (1, 9):
        x = inputs(rows, 40)
        x[0, 3] = value
        y = run(kernel, x)
        assert np.isnan(y[0]).all() and np.isfinite(y[1:]).all()


def test_zeros_and_hardly_more_with_int8(cpu: str, library: str) -> None:
    layer = Prp(100, 24)
    kernel, x = session(layer.model(), library, activations="int8"), inputs(3, 100)
    x[0], x[1] = 0, x[1] * np.float32(1e-38)

    y = run(kernel, x)

    np.testing.assert_allclose(y[:2], [layer.weights["bias"]] * 2, atol=1e-36)
    assert_close(y[2:], layer.expected(layer.rounded(x[2:])))


def test_activations_that_there_are_not(library: str) -> None:
    with pytest.raises(Exception, match=r"edgefc\.activations is int4\. Choose float32 or int8\.$"):
        session(Prp(4, 9).model(), library, activations="int4")
    x = inputs(2, 4)
    exact = run(session(Prp(4, 9).model(), library), x)
    np.testing.assert_array_equal(run(session(Prp(4, 9).model(), library, activations="float32"), x), exact)


# ---- hostile models

HOSTILE = [
    ({"in_features": -3}, "in_features is -3, not from 1 to 2147483647."),
    ({"out_features": 0}, "out_features is 0, not from 1 to 2147483647."),
    ({"in_features": 2**62}, "in_features is 4611686018427387904, not from 1 to 2147483647."),
    ({"out_features": 2**31 - 1}, "out_scale has shape (9,), not (2147483647,)."),
    ({"in_features": 5}, "in_scale has shape (4,), not (5,)."),
    ({"bits": 3}, "bits is 3, not 1, 2, 4 or 8."),
    ({"bits": -1}, "bits is -1, not 1, 2, 4 or 8."),
    ({"bits": 8}, "the codebook has 2 levels, and codes of 8 bits need 256."),
    ({"codebook": [0.5] * 257}, "the attribute codebook has 257 numbers, above 256."),
    ({"codebook": [1.0, float("nan")]}, "the codebook contains a level that is not finite."),
    ({"codebook": None}, "the attribute codebook is missing or not a list of numbers."),
    ({"codebook": "1, 2"}, "the codebook has 0 levels, and codes of 1 bits need 2."),
    ({"seed": None}, "the attribute seed is missing or not an integer."),
    ({"seed": 1.5}, "the attribute seed is missing or not an integer."),
]


@pytest.mark.parametrize(("changed", "said"), HOSTILE)
def test_one_sentence_with_layer_and_values(library: str, changed: dict[str, object], said: str) -> None:
    model = Prp(4, 9, **{"seed": 7, **changed}) if "seed" not in changed else Prp(4, 9)
    model.attributes.update(changed)

    with pytest.raises(Exception, match="edgefc::PRPLinear") as caught:
        session(model.model(), library)
    assert str(caught.value).endswith(f"edgefc::PRPLinear encoder.fc1: {said}")


@pytest.mark.parametrize("shape", [(2, 5), (), (5,), (3, 0)])
def test_inputs_of_another_width(library: str, shape: tuple[int, ...]) -> None:
    kernel = session(Prp(4, 9).model(), library)

    with pytest.raises(Exception, match="and its last axis is not in_features 4"):
        run(kernel, np.ones(shape, np.float32))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changed=st.dictionaries(
        st.sampled_from(["in_features", "out_features", "seed", "bits"]), st.integers(-(2**63), 2**63 - 1)
    ),
    codebook=st.lists(st.floats(width=32), min_size=1, max_size=300) | st.none(),
    x=st.lists(st.integers(0, 6), max_size=4),
)
def test_whatever_the_attributes_nothing_crashes(
    library: str, changed: dict[str, int], codebook: list[float] | None, x: list[int]
) -> None:
    model = Prp(4, 9)
    model.attributes.update(changed, **({"codebook": codebook} if codebook is not None else {}))
    said = "edgefc::PRPLinear encoder.fc1"
    try:
        run(session(model.model(), library), np.ones(x, np.float32))
    except Exception as error:
        said = str(error)
    assert "edgefc::PRPLinear encoder.fc1" in said
