"""PRPLinear in torch: against its matrix, its gradients, the fit to a linear layer, and the ways to be wrong.

What tells its kinds of matrix apart is in test_prp_matrices.py, its exported forms in test_bodies_prp*.py.
"""

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgefc import PRPLinear, generator
from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common import seeded
from edgefc.layers.prp import matrices
from edgefc.testing import assert_close
from tests.support import layer_models as models

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([61, 64, 97, 300]))
DISTRIBUTIONS = sorted(matrices.DISTRIBUTIONS)


@given(
    n=SIZES,
    m=SIZES,
    distribution=st.sampled_from(DISTRIBUTIONS),
    seed=st.integers(0, 2**64 - 1),
    bias=st.booleans(),
    leading=st.sampled_from([(4,), (), (2, 3)]),
)
@settings(max_examples=80, deadline=None)
def test_forward_is_the_matrix_of_the_paper(
    n: int, m: int, distribution: str, seed: int, bias: bool, leading: tuple[int, ...]
) -> None:
    """For every size, distribution and seed: forward(x) = x (diag(w) P diag(alpha))^T + bias, and dense() is that."""
    layer = models.randomise(PRPLinear(n, m, bias, distribution=distribution, seed=seed, dtype=torch.float64))
    matrix = models.prp_matrix(layer)
    np.testing.assert_allclose(layer.dense().numpy(), matrix, rtol=1e-14, atol=1e-14 * np.abs(matrix).max())
    if not matrix.any():  # a small ternary matrix may be all zeros
        return
    x = models.inputs(*leading, n, dtype=np.float64)
    assert_close(layer(torch.from_numpy(x)), models.expected(layer, x), nmse=1e-26, what="forward")


def test_the_matrix_written_out() -> None:
    """n = 2, m = 3, Rademacher, by hand: rows scaled by w, columns by alpha, all by 1/sqrt(2)."""
    layer = PRPLinear(2, 3, distribution="rademacher", seed=1)
    layer.in_scale.data, layer.out_scale.data = torch.tensor([1.0, 10.0]), torch.tensor([2.0, 3.0, 5.0])
    signs = generator.matrix(1, 3, 2, "rademacher")
    by_hand = np.array([[2, 20], [3, 30], [5, 50]]) * signs / np.sqrt(2)
    assert_close(layer.dense(), by_hand, nmse=1e-14, what="dense()")
    assert set(signs.ravel()) == {-1.0, 1.0}


@pytest.mark.parametrize("leading", [(0,), (2, 0), (0, 3)])
def test_empty_batches_give_empty_answers(leading: tuple[int, ...]) -> None:
    assert PRPLinear(12, 7)(torch.zeros(*leading, 12)).shape == (*leading, 7)


# ---- gradients


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 7), (7, 3), (3, 7)])
def test_gradients_by_finite_differences(n: int, m: int, distribution: str) -> None:
    layer = PRPLinear(n, m, distribution=distribution, seed=3, dtype=torch.float64)
    x = torch.from_numpy(models.inputs(2, n, dtype=np.float64)).requires_grad_()

    def forward(x: Any, *parameters: Any) -> Any:
        named = dict(zip(("in_scale", "out_scale", "bias"), parameters, strict=True))
        return torch.func.functional_call(layer, named, x)

    assert torch.autograd.gradcheck(forward, (x, layer.in_scale, layer.out_scale, layer.bias))


@pytest.mark.parametrize(("n", "m"), [(8, 8), (61, 20), (20, 61)])
def test_gradients_are_the_closed_form(n: int, m: int) -> None:
    """dL/dw = sum g P(x alpha), dL/dalpha = sum x P^T(g w), dL/db = sum g; none for P."""
    layer = models.randomise(PRPLinear(n, m, seed=9, dtype=torch.float64))
    x, g = (models.inputs(5, size, seed=size, dtype=np.float64) for size in (n, m))
    layer(torch.from_numpy(x)).backward(torch.from_numpy(g))
    p, w, alpha = models.prp_fixed(layer), layer.out_scale.detach().numpy(), layer.in_scale.detach().numpy()
    assert layer.bias is not None
    assert_close(layer.out_scale.grad, (g * ((x * alpha) @ p.T)).sum(0), nmse=1e-26, what="dL/dw")
    assert_close(layer.in_scale.grad, (x * ((g * w) @ p)).sum(0), nmse=1e-26, what="dL/dalpha")
    assert_close(layer.bias.grad, g.sum(0), nmse=1e-26, what="dL/db")
    assert [name for name, _ in layer.named_parameters()] == ["in_scale", "out_scale", "bias"]


# ---- the fit to a linear layer


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("n", "m"), [(24, 24), (40, 9), (9, 40)])
def test_from_linear_recovers_another_prp_layer(n: int, m: int, distribution: str) -> None:
    """A weight that a fresh layer of this seed made comes back to float64's precision, and its bias as it was."""
    torch.manual_seed(0)
    original = PRPLinear(n, m, distribution=distribution, seed=6, dtype=torch.float64)
    nn.init.normal_(original.bias)
    fitted = PRPLinear.from_linear(_linear_of(original), distribution=distribution, seed=6)
    assert_close(fitted.dense(), original.dense(), nmse=1e-18, what="weight")
    assert fitted.bias is not None
    assert torch.equal(fitted.bias, original.bias)


@pytest.mark.parametrize(
    ("n", "m", "distribution"),
    [
        (1, 1, "rademacher"),
        (1, 1, "gaussian"),
        (24, 24, "rademacher"),
        (40, 9, "rademacher"),
        (24, 24, "gaussian"),
        (24, 24, "ternary"),
        (40, 9, "ternary"),
        (9, 40, "ternary"),
    ],
)
def test_from_linear_recovers_scales_of_both_signs(n: int, m: int, distribution: str) -> None:
    original = models.randomise(PRPLinear(n, m, distribution=distribution, seed=6, dtype=torch.float64))
    fitted = PRPLinear.from_linear(_linear_of(original), distribution=distribution, seed=6)
    assert_close(fitted.dense(), original.dense(), nmse=1e-18, what="weight")


def _linear_of(layer: PRPLinear) -> nn.Linear:
    linear = nn.Linear(layer.in_features, layer.out_features, dtype=layer.in_scale.dtype)
    assert layer.bias is not None
    linear.load_state_dict({"weight": layer.dense(), "bias": layer.bias.detach()})
    return linear


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("n", "m"), [(8, 8), (30, 20), (20, 30)])
def test_from_linear_is_nearer_than_plain_scales(n: int, m: int, distribution: str) -> None:
    """Never farther than the best single factor, the best scales of the outputs, or the best scales of the inputs."""
    torch.manual_seed(0)
    linear = nn.Linear(n, m, dtype=torch.float64)
    layer = PRPLinear.from_linear(linear, distribution=distribution, seed=1)
    weight, p = linear.weight.detach().numpy(), models.prp_fixed(layer)
    distance = np.linalg.norm(layer.dense().numpy() - weight)
    for axes in ((0, 1), 1, 0):
        power = np.maximum(np.square(p).sum(axis=axes, keepdims=True), 1e-300)
        best = p * (p * weight).sum(axis=axes, keepdims=True) / power
        assert distance <= np.linalg.norm(best - weight)


def test_from_linear_with_rademacher_is_the_best_rank_one_fit() -> None:
    """With entries of one size the best scales are the first singular vectors of weight * P (Eckart and Young)."""
    torch.manual_seed(0)
    linear = nn.Linear(12, 10, dtype=torch.float64)
    outer = torch.outer(torch.linspace(1, 2, 10, dtype=torch.float64), torch.linspace(-1, 1, 12, dtype=torch.float64))
    p = generator.matrix(3, 10, 12, "rademacher")
    linear.weight.data = linear.weight.data + outer * torch.from_numpy(p)  # so that one singular value stands out
    layer = PRPLinear.from_linear(linear, distribution="rademacher", seed=3)
    u, s, vh = np.linalg.svd(linear.weight.detach().numpy() * p)
    assert_close(layer.dense(), s[0] * np.outer(u[:, 0], vh[0]) * p, nmse=1e-20, what="fit")


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_from_linear_of_a_zero_weight_is_zero_and_trains(distribution: str) -> None:
    """Two zero scales would hold each other at zero for ever: one of them is one."""
    linear = nn.Linear(5, 4)
    nn.init.zeros_(linear.weight)
    layer = PRPLinear.from_linear(linear, distribution=distribution, seed=1)
    assert torch.equal(layer.dense(), torch.zeros(4, 5))
    layer(torch.randn(8, 5)).square().sum().backward()
    assert layer.out_scale.grad is not None
    assert layer.out_scale.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_from_linear_keeps_dtype_and_the_lack_of_a_bias(dtype: torch.dtype) -> None:
    layer = PRPLinear.from_linear(nn.Linear(6, 5, bias=False, dtype=dtype))
    assert layer.in_scale.dtype == layer.out_scale.dtype == dtype
    assert layer.bias is None
    assert torch.isfinite(layer.dense()).all()


# ---- numbers stored, numbers drawn


@pytest.mark.parametrize(("n", "m"), [(1, 1), (64, 64), (2048, 1024)])
def test_it_stores_n_and_2_m_numbers(n: int, m: int) -> None:
    """The paper's count: one scale for each input, one for each output, and the bias. P is neither."""
    assert sum(p.numel() for p in PRPLinear(n, m).parameters()) == n + 2 * m
    assert sorted(models.weights(PRPLinear(n, m))) == ["bias", "in_scale", "out_scale"]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("n", "m"), [(128, 128), (128, 50), (50, 128)])
def test_fresh_layers_nearly_keep_the_variance(n: int, m: int, distribution: str) -> None:
    """|row|^2 has mean (1 + 1/n)^2, from scales of N(1, 1/n): within 2 % over 20 layers, and within 5 % of 1."""
    torch.manual_seed(0)
    power = models.mean_row_power([PRPLinear(n, m, distribution=distribution, seed=seed) for seed in range(20)])
    assert abs(power / (1 + 1 / n) ** 2 - 1) < 0.02
    assert abs(power - 1) < 0.05


# ---- what every layer keeps


@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 2e-6), (torch.bfloat16, 2e-4)])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_half_precision_stays_near(dtype: torch.dtype, nmse: float, distribution: str) -> None:
    """P, the scaled input and the product are each rounded once: a few roundings of 2**-11 or 2**-8."""
    models.check_half_precision(PRPLinear(61, 97, distribution=distribution), dtype, nmse)


def test_autocast() -> None:
    models.check_autocast(PRPLinear(48, 33))


def test_conversions() -> None:
    models.check_conversions(PRPLinear(48, 33))


def test_copies_hold_the_scales_and_not_the_matrix() -> None:
    """n = m = 512 stores 6 KiB of scales; P would be a megabyte."""
    models.check_copies(PRPLinear(512, 512, seed=2**64 - 1), most_bytes=3 * 512 * 4 + 6000)


@pytest.mark.slow
def test_another_process_has_the_same_matrix() -> None:
    models.check_another_process("PRPLinear(70, 50, seed=2**63 + 5, distribution='ternary')")


@pytest.mark.parametrize("distribution", ["gaussian", "hadamard"])
def test_the_matrix_is_made_once(distribution: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second forward finds what the first one made; another dtype does not."""
    made = []
    real = seeded.matrix
    monkeypatch.setattr(seeded, "matrix", lambda *args, **kwargs: made.append(args) or real(*args, **kwargs))
    layer = PRPLinear(30, 20, distribution=distribution)
    layer(torch.zeros(1, 30))
    before = len(made)
    layer(torch.zeros(1, 30))
    assert len(made) == before > 0
    layer.double()(torch.zeros(1, 30).double())
    assert len(made) > before


def test_training_inference_and_training_again() -> None:
    """A matrix first made within inference_mode serves the backward pass after it."""
    layer = PRPLinear(6, 5)
    with torch.inference_mode():
        layer(torch.ones(2, 6))
    layer(torch.ones(2, 6)).sum().backward()
    assert layer.in_scale.grad is not None


def test_repr_says_how_to_make_it() -> None:
    layer = PRPLinear(6, 5, False, distribution="ternary", seed=7)
    assert str(layer) == "PRPLinear(in_features=6, out_features=5, bias=False, distribution='ternary', seed=7)"
    assert str(eval(str(layer))) == str(layer)


# ---- the ways to be wrong


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 0), (-1, 4), (4, -7)])
def test_sizes_below_one_are_named(n: int, m: int) -> None:
    said = f"PRPLinear does not support in_features={n}, out_features={m}. Choose integers from 1 to 2**31 - 1."
    with pytest.raises(ShapeError, match=re.escape(said)):
        PRPLinear(n, m)


@pytest.mark.parametrize("distribution", ["normal", "Gaussian", "", None])
def test_an_unknown_distribution_is_named_with_the_choices(distribution: str) -> None:
    names = "rademacher, gaussian, ternary, ternary_thirds, sparse, uniform, orthogonal, hadamard"
    said = f"unknown distribution {distribution!r}. Choose one of: {names}."
    with pytest.raises(UsageError, match=re.escape(said)):
        PRPLinear(4, 4, distribution=distribution)


@pytest.mark.parametrize("shape", [(2, 7), (8, 2), (0, 7), ()])
def test_inputs_of_another_width_are_named_with_both_sizes(shape: tuple[int, ...]) -> None:
    said = f"PRPLinear expects inputs of shape (..., 8), got {shape}. Change the size of the last axis to 8."
    with pytest.raises(ShapeError, match=re.escape(said)):
        PRPLinear(8, 5)(torch.zeros(shape))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "0", True])
def test_seeds_that_are_not_of_64_bits_are_refused(seed: Any) -> None:
    with pytest.raises(UsageError, match=re.escape(f"seed must be an integer from 0 to 2**64 - 1, got {seed!r}")):
        PRPLinear(4, 4, seed=seed)


# ---- the comparisons can fail


@pytest.mark.parametrize("distribution", [name for name in DISTRIBUTIONS if name != "orthogonal"])  # which is loaded
def test_the_neighbouring_seed_is_noticed(distribution: str) -> None:
    """Meta-test: the oracle of seed 1 against the forward of seed 0."""
    layer, other = (PRPLinear(64, 64, distribution=distribution, seed=seed, dtype=torch.float64) for seed in (0, 1))
    models.take_weights(other, layer)
    x = models.inputs(4, 64, dtype=np.float64)
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(torch.from_numpy(x)), models.expected(other, x), nmse=1e-26, what="seed")


def test_swapped_scales_are_noticed() -> None:
    layer = models.randomise(PRPLinear(64, 64, dtype=torch.float64))
    x = models.inputs(4, 64, dtype=np.float64)
    y = models.expected(layer, x)
    layer.out_scale.data, layer.in_scale.data = layer.in_scale.data, layer.out_scale.data
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(torch.from_numpy(x)), y, nmse=1e-26, what="swapped")
