"""EUGenLinear from a trained layer: the estimator of polynomials by Monte Carlo, and the paper's g(W).

Projections come from seeds, so each test gives the same answer every time. Its bounds are 5 standard errors: had the
numbers been drawn afresh, each comparison would raise a false alarm with probability 6e-7 by the central limit theorem.
One layer of many features is many estimates: its answer is a mean over them.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgefc import EUGenLinear, generator
from edgefc.errors import UsageError
from edgefc.testing import assert_close
from tests.support import eugen_models as eugen
from tests.support import layer_models as models

MANY = 1 << 16
SIGMAS = 5
POLYNOMIALS = [(0.3, -0.7), (0.3, -0.7, 0.5), (0.0, 0.2, -0.4, 0.6)]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Many small products: threads would wait for one another longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def linear_layer(n: int, m: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(n, m, bias, dtype=torch.float64)


def estimates(layer: EUGenLinear, x: Any) -> Any:
    """The answers for one x as estimates by one feature each, whose mean over the features is the answer: (m, l)."""
    f = layer.random_features(torch.from_numpy(x)).detach().numpy()
    terms = f * layer.weight.detach().numpy() * layer.features  # (l, k m)
    return terms.reshape(layer.out_features, layer.order, layer.features).sum(1).T + layer.bias.detach().numpy()


def tau(distribution: str) -> float:
    """The fourth moment of the entries as the generator makes them."""
    return float((np.array(generator.codebook(distribution).levels, np.float64) ** 4).mean())


def moments(x: Any, w: Any, fourth: float) -> tuple[float, float]:
    """Mean w.x and second moment of one factor (g.x)(g.w)."""
    second = 2 * (w @ x) ** 2 + (w @ w) * (x @ x) + (fourth - 3) * (w**2 * x**2).sum()
    return float(w @ x), float(second)


def variance(x: Any, w: Any, a: Any, fourth: float) -> float:
    """Theorem 3.2 for m = 1."""
    mean, second = moments(x, w, fourth)
    return sum(a[i] ** 2 * (second**i - mean ** (2 * i)) for i in range(1, len(a)))


def crossing(x: Any, w: Any, a: Any, fourth: float) -> float:
    """What shared projections add: 2 a_i a_j Cov(block i, block j), i < j, which have i factors in common."""
    mean, second = moments(x, w, fourth)
    k = len(a)
    pairs = ((i, j) for j in range(1, k) for i in range(1, j))
    return sum(2 * a[i] * a[j] * (second**i * mean ** (j - i) - mean ** (i + j)) for i, j in pairs)


def check_mean(samples: Any, exact: Any) -> None:
    error = samples.std(0) / np.sqrt(len(samples))
    assert (np.abs(samples.mean(0) - exact) < SIGMAS * error).all(), (samples.mean(0), exact, error)


def misses(samples: Any, exact: float) -> float:
    """By how many standard errors the variance of the samples misses."""
    squares = (samples - samples.mean()) ** 2
    return float(abs(squares.mean() - exact) / (squares.std() / np.sqrt(len(squares))))


# ---- Theorems 3.1 and 3.2


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher", "ternary"])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize("a", POLYNOMIALS, ids=str)
def test_the_mean_is_the_polynomial_of_the_linear_layer(a: Any, shared: bool, distribution: str) -> None:
    linear, x = linear_layer(5, 3), models.inputs(5, dtype=np.float64)
    layer = EUGenLinear.from_polynomial(linear, a, features=MANY, shared=shared, distribution=distribution)
    z = linear(torch.from_numpy(x)).detach().numpy()
    samples = estimates(layer, x)
    assert_close(layer(torch.from_numpy(x)), samples.mean(0), nmse=1e-20, what="the mean over features")
    check_mean(samples, np.polyval(a[::-1], z))


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
def test_the_mean_over_seeds_of_small_layers(shared: bool) -> None:
    """200 seeds of 16 features, which is how layers are made."""
    linear, x, a = linear_layer(6, 2, bias=False), models.inputs(6, dtype=np.float64), (0.3, -0.7, 0.5)
    layers = (EUGenLinear.from_polynomial(linear, a, features=16, seed=s, shared=shared) for s in range(200))
    samples = np.array([layer(torch.from_numpy(x)).detach().numpy() for layer in layers])
    check_mean(samples, np.polyval(a[::-1], linear(torch.from_numpy(x)).detach().numpy()))


def test_orthogonal_projections_are_unbiased_too_and_vary_less() -> None:
    """Rows may depend on one another, Theorem 3.1; at order 1 with m = d orthogonal ones err less."""
    linear, x, a = linear_layer(8, 1, bias=False), models.inputs(8, dtype=np.float64), (0.0, 1.0)
    spread = {}
    for projection in ("random", "orthogonal"):
        layers = [EUGenLinear.from_polynomial(linear, a, features=8, seed=s, projection=projection) for s in range(200)]
        samples = np.array([layer(torch.from_numpy(x)).item() for layer in layers])
        check_mean(samples, linear(torch.from_numpy(x)).item())
        spread[projection] = samples.var()
    assert spread["orthogonal"] < 0.6 * spread["random"]


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
@pytest.mark.parametrize("a", POLYNOMIALS, ids=str)
def test_the_variance_of_separate_projections_is_the_formula(a: Any, distribution: str) -> None:
    """tau is 1 for Rademacher entries and that of the 16 levels for Gaussian ones; the other tau is noticed."""
    linear, x = linear_layer(3, 1, bias=False), models.inputs(3, seed=4, dtype=np.float64)
    layer = EUGenLinear.from_polynomial(linear, a, features=MANY, shared=False, distribution=distribution)
    w, samples = linear.weight.detach().numpy()[0], estimates(layer, x)[:, 0]
    assert misses(samples, variance(x, w, a, tau(distribution))) < SIGMAS
    other = {"gaussian": 1.0, "rademacher": 3.0}[distribution]
    assert misses(samples, variance(x, w, a, other)) > 2 * SIGMAS


def test_the_fourth_moments() -> None:
    """Those of the theorem, but that 16 levels have a lighter tail than the normal's 3."""
    assert tau("rademacher") == 1
    assert 2.5 < tau("gaussian") < 3


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_shared_projections_add_terms_that_cross_orders(distribution: str) -> None:
    """Blocks 1 and 2 share a factor, so their covariance counts twice; the formula without it is noticed."""
    linear, x, a = linear_layer(3, 1, bias=False), np.array([1.0, -1.5, 0.5]), (0.3, 0.7, 0.5)
    linear.weight.data = torch.tensor([[0.8, -0.5, 0.3]], dtype=torch.float64)
    layer = EUGenLinear.from_polynomial(linear, a, features=MANY, distribution=distribution)
    w, samples = linear.weight.detach().numpy()[0], estimates(layer, x)[:, 0]
    separate, crossed = (f(x, w, a, tau(distribution)) for f in (variance, crossing))
    assert misses(samples, separate + crossed) < SIGMAS
    assert misses(samples, separate) > SIGMAS


@pytest.mark.parametrize("a", [(1.0,), (), (0.0, float("nan")), "abc", None, 2.0])
def test_what_is_no_polynomial_is_refused(a: Any) -> None:
    said = f"from_polynomial() does not support coefficients={a!r}. Pass at least two finite numbers"
    with pytest.raises(UsageError, match=re.escape(said)):
        EUGenLinear.from_polynomial(linear_layer(4, 3), a)


# ---- g(W)


@pytest.mark.parametrize("projection", ["random", "orthogonal", "trained"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("norm", [True, False], ids=["norm", "no-norm"])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
def test_the_weight_is_psi_of_the_projected_weight(shared: bool, norm: bool, bias: bool, projection: str) -> None:
    """Psi(prod_j g_ij w+) / (m s^i), w+ = [w ; b ; 1], written out; Phi stays relu where Psi is tanh."""
    linear = linear_layer(10, 6, bias)
    options = {"shared": shared, "norm": norm, "projection": projection}
    layer = EUGenLinear.from_linear(linear, psi="tanh", features=7, order=3, seed=5, **options)
    w = linear.weight.detach().numpy()
    parts = [w, *([linear.bias.detach().numpy()[:, None]] if bias else []), *([np.ones((6, 1))] if norm else [])]
    plus = np.concatenate(parts, 1)
    size = 1 / np.sqrt((10 + bias) * (1 + norm))
    blocks = [
        np.tanh(np.prod([plus @ (g / size).T for g in row], axis=0)) / 7 / size**i
        for i, row in enumerate(eugen.projections(layer), 1)
    ]
    assert_close(layer.weight, np.concatenate(blocks, 1), nmse=1e-26, what="weight")
    assert not layer.bias.any()
    assert (layer.one, layer.norm, layer.activation) == (bias, norm, "relu")


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("norm", [True, False], ids=["norm", "no-norm"])
def test_relu_on_both_sides_estimates_the_arc_cosine_kernel(norm: bool, bias: bool) -> None:
    """|x||w| (sin t + (pi - t) cos t) / (2 pi), t the angle of x+ and w+: of degree 1, and not relu(W x + b).

    The 16 levels stand for normal entries, so the kernel is not theirs to the last digit: 1 % is allowed beside the
    5 standard errors.
    """
    linear, x = linear_layer(24, 3, bias), models.inputs(24, dtype=np.float64)
    layer = EUGenLinear.from_linear(linear, features=MANY, norm=norm)
    plus = eugen.extended(layer, x)
    w = linear.weight.detach().numpy()
    parts = [w, *([linear.bias.detach().numpy()[:, None]] if bias else []), *([np.ones((3, 1))] if norm else [])]
    w = np.concatenate(parts, 1)
    lengths = np.linalg.norm(w, axis=1) * np.linalg.norm(plus)
    angle = np.arccos(w @ plus / lengths)
    kernel = lengths * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    samples = estimates(layer, x)
    error = samples.std(0) / np.sqrt(len(samples))
    assert (np.abs(samples.mean(0) - kernel) < SIGMAS * error + 0.01 * kernel).all()


def test_identity_on_both_sides_estimates_the_sum_of_powers() -> None:
    """Unbiased for z + z^2, z = w+ . x+ = w.x + b + |[x ; 1]|: every a_i is 1."""
    linear, x = linear_layer(4, 2), models.inputs(4, dtype=np.float64)
    layer = EUGenLinear.from_linear(linear, activation="identity", order=2, features=MANY)
    z = linear(torch.from_numpy(x)).detach().numpy() + np.linalg.norm([*x, 1.0])
    check_mean(estimates(layer, x), z + z**2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_starts_keep_the_dtype(dtype: torch.dtype) -> None:
    linear = nn.Linear(6, 5, dtype=dtype)
    for layer in (EUGenLinear.from_linear(linear), EUGenLinear.from_polynomial(linear, (0.0, 1.0))):
        assert {p.dtype for p in layer.parameters()} == {dtype}
        assert layer(torch.ones(2, 6, dtype=dtype)).isfinite().all()


def test_an_unknown_psi_is_named() -> None:
    with pytest.raises(UsageError, match=re.escape("unknown activation 'fourier'. Choose one of: identity, relu,")):
        EUGenLinear.from_linear(nn.Linear(4, 3), psi="fourier")
