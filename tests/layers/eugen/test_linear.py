"""EUGenLinear in torch: against the paper's formula in numpy, its gradients, what it stores, and the ways to be wrong.

Its starts from trained layers are in test_eugen_starts.py, the closed-form fit in test_eugen_fit.py, its exported
forms in test_bodies_eugen.py.
"""

import copy
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgefc import EUGenLinear, generator
from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common.activations import ACTIVATIONS
from edgefc.layers.common.checkpoint import holds_weights
from edgefc.testing import assert_close
from tests.support import eugen_models as eugen
from tests.support import layer_models as models

SIZES = st.one_of(st.integers(1, 30), st.sampled_from([61, 64, 97]))
PROJECTIONS = ("random", "orthogonal", "trained")


def make(n: int, m: int, bias: bool = True, **options: Any) -> EUGenLinear:
    """A layer with weights of N(0, 1) and a bias that is not zero; G as it is drawn."""
    layer = EUGenLinear(n, m, bias, **options)
    torch.manual_seed(0)
    nn.init.normal_(layer.weight)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


@given(
    n=SIZES,
    m=SIZES,
    features=st.integers(1, 40),
    order=st.integers(1, 4),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    seed=st.integers(0, 2**64 - 1),
    projection=st.sampled_from(PROJECTIONS),
    shared=st.booleans(),
    norm=st.booleans(),
    one=st.booleans(),
    bias=st.booleans(),
    leading=st.sampled_from([(4,), (), (2, 3)]),
)
@settings(max_examples=30, deadline=None)
def test_forward_is_the_formula_of_the_paper(
    n: int, m: int, features: int, order: int, bias: bool, leading: tuple[int, ...], **options: Any
) -> None:
    layer = make(n, m, bias, features=features, order=order, dtype=torch.float64, **options)
    x = models.inputs(*leading, n, dtype=np.float64)
    y = eugen.expected(layer, x)
    if y.any():  # a relu of few features may be all zeros
        assert_close(layer(torch.from_numpy(x)), y, nmse=1e-26, what="forward")


@pytest.mark.parametrize(("n", "m"), [*models.EDGES, pytest.param(384, 768, id="384-768")])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
def test_edge_sizes_in_float32(n: int, m: int, shared: bool) -> None:
    layer, x = make(n, m, order=2, features=7, seed=3, shared=shared), models.inputs(4, n)
    assert_close(layer(torch.from_numpy(x)), eugen.expected(layer, x), nmse=1e-12, what="forward")


@pytest.mark.parametrize("distribution", sorted(generator.CODEBOOKS))
def test_every_distribution(distribution: str) -> None:
    layer = make(33, 9, order=2, features=20, distribution=distribution, dtype=torch.float64)
    x = models.inputs(4, 33, dtype=np.float64)
    assert_close(layer(torch.from_numpy(x)), eugen.expected(layer, x), nmse=1e-26, what=distribution)


def test_the_formula_written_out() -> None:
    """d = 2, m = 1, k = 2 with given G: x+ = (3, 4, 5), projections 1 * 3 + 2 * 5 = 13 and -4 + 5 = 1."""
    layer = EUGenLinear(2, 1, features=1, order=2, activation="identity", projection="trained", dtype=torch.float64)
    layer.projection.data = torch.tensor([[1.0, 0.0, 2.0], [0.0, -1.0, 1.0]], dtype=torch.float64)
    layer.weight.data = torch.tensor([[10.0, 100.0]], dtype=torch.float64)
    layer.bias.data = torch.tensor([0.5], dtype=torch.float64)
    assert layer(torch.tensor([3.0, 4.0], dtype=torch.float64)).item() == 10 * 13 + 100 * 13 * 1 + 0.5


def test_separate_projections_with_equal_numbers_are_shared_ones() -> None:
    """G_ij = G_j: k (k + 1) / 2 blocks copied from k give the running product, to the last digit but a few."""
    shared = make(10, 6, order=3, features=5, projection="trained", dtype=torch.float64)
    apart = make(10, 6, order=3, features=5, projection="trained", shared=False, dtype=torch.float64)
    g = shared.projection.data.split(5)
    apart.projection.data = torch.cat([g[j] for i in range(3) for j in range(i + 1)])
    x = torch.from_numpy(models.inputs(4, 10, dtype=np.float64))
    assert_close(apart(x), shared(x), nmse=1e-28, what="separate")


@pytest.mark.parametrize("leading", [(0,), (2, 0), (0, 3)])
@pytest.mark.parametrize("shared", [True, False])
def test_empty_batches_give_empty_answers(leading: tuple[int, ...], shared: bool) -> None:
    assert EUGenLinear(12, 7, order=3, shared=shared)(torch.zeros(*leading, 12)).shape == (*leading, 7)


# ---- special cases: what the paper says the layer contains


def test_order_1_with_identity_is_the_low_rank_layer() -> None:
    """Without the norm: y = (W G) x, of rank m. With it, a term more: W times G's last column, times |x|."""
    x = models.inputs(5, 20, dtype=np.float64)
    for norm in (False, True):
        layer = make(20, 15, features=4, activation="identity", norm=norm, dtype=torch.float64)
        (((g,),), w) = eugen.projections(layer), layer.weight.detach().numpy()
        low_rank = w @ g[:, :20]
        assert np.linalg.matrix_rank(low_rank) == 4
        y = x @ low_rank.T + layer.bias.detach().numpy()
        if norm:
            y += np.linalg.norm(x, axis=1)[:, None] * (w @ g[:, 20])
        assert_close(layer(torch.from_numpy(x)), y, nmse=1e-26, what=f"norm={norm}")


@pytest.mark.parametrize("projection", ["random", "orthogonal"])
def test_the_relu_snnk_is_a_special_case(projection: str) -> None:
    """SNNK: y = max(G x, 0) / sqrt(m) V^T without bias, entries of G of variance 1: the same up to V's scale."""
    layer = make(20, 15, False, features=12, seed=0, norm=False, projection=projection, dtype=torch.float64)
    x, v = models.inputs(5, 20, dtype=np.float64), models.inputs(15, 12, seed=1, dtype=np.float64)
    g = generator.matrix(0, 12, 20, "gaussian").astype(np.float64)
    if projection == "orthogonal":
        g = layer.projection.numpy() * np.sqrt(20)
    layer.weight.data = torch.from_numpy(v * np.sqrt(20 / 12))
    assert_close(layer(torch.from_numpy(x)), np.maximum(x @ g.T, 0) / np.sqrt(12) @ v.T, nmse=1e-26, what="SNNK")


# ---- projections


@pytest.mark.parametrize(("d", "m"), [(16, 16), (16, 5), (16, 40), (1, 3)])
@pytest.mark.parametrize("shared", [True, False])
def test_orthogonal_rows_are_orthogonal_within_blocks_of_a_projection(d: int, m: int, shared: bool) -> None:
    """Blocks of at most d + 1 rows; the rows of one projection go to blocks of their own."""
    layer = EUGenLinear(d, 3, features=m, order=2, shared=shared, projection="orthogonal", dtype=torch.float64)
    for projection in layer.projection.split(m):
        for block in projection.split(d + 1):
            gram = (block @ block.T).numpy()
            np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-14)


def test_orthogonal_rows_are_gaussian_one_by_one() -> None:
    """2,000 rows in R^17: entries of variance 1/d within 3 %, no mean, and lengths spread as those of Gaussian rows:
    chi with 17 degrees, relative variance near 1/34, a little less with 16 levels."""
    layer = EUGenLinear(16, 1, features=2000, projection="orthogonal", dtype=torch.float64)
    g = layer.projection.numpy() * np.sqrt(32)
    assert abs(g.var() - 1) < 0.03
    assert np.abs(g.mean(0)).max() < 5 / np.sqrt(2000)
    length = np.linalg.norm(g, axis=1)
    assert 0.7 / 34 < length.var() / length.mean() ** 2 < 1.1 / 34


@pytest.mark.parametrize("order", [1, 2, 3])
def test_projections_of_unit_input_have_unit_variance(order: int) -> None:
    """Over G, for |x|^2 = d: every block within 6 standard errors of 1, fourth moment 3^i of a product of i normals."""
    layer = EUGenLinear(24, 1, features=20000, order=order, activation="identity", dtype=torch.float64)
    x = models.inputs(24, dtype=np.float64)
    x *= np.sqrt(24) / np.linalg.norm(x)
    for i, block in enumerate(layer.random_features(torch.from_numpy(x)).split(20000), 1):
        assert abs(block.square().mean().item() - 1) < 6 * math.sqrt((3**i - 1) / 20000)


def test_trained_projections_start_as_the_random_ones() -> None:
    random, trained = (EUGenLinear(9, 5, order=2, projection=p, seed=4) for p in ("random", "trained"))
    assert torch.equal(random.matrix(), trained.matrix())
    assert {name for name, _ in trained.named_parameters()} == {"weight", "bias", "projection"}


def test_what_is_stored() -> None:
    """2.4 of the dossier: G is m (d + 1) k shared, m (d + 1) k (k + 1) / 2 not; the readout l (m k + 1)."""
    for shared, several in ((True, 3), (False, 6)):
        for projection, trained, kept in (("random", 0, 0), ("orthogonal", 0, 1), ("trained", 1, 0)):
            layer = EUGenLinear(20, 9, features=8, order=3, shared=shared, projection=projection)
            g = 8 * 21 * several
            assert sum(p.numel() for p in layer.parameters()) == 9 * (8 * 3 + 1) + trained * g
            assert sum(b.numel() for n, b in layer.named_buffers() if holds_weights(n)) == kept * g


def test_multiply_adds_are_counted() -> None:
    """By 2.4: m (d + 1) k + m (k - 1) + d + l m k; separate projections m k (k - 1) / 2 products."""
    assert EUGenLinear(768, 3072).multiply_adds() == 64 * 769 + 768 + 64 * 3072
    assert EUGenLinear(768, 10, order=3).multiply_adds() == 3 * 64 * 769 + 2 * 64 + 768 + 3 * 64 * 10
    assert EUGenLinear(768, 10, order=3, shared=False).multiply_adds() == 6 * 64 * 769 + 3 * 64 + 768 + 3 * 64 * 10
    assert EUGenLinear(768, 10, norm=False).multiply_adds() == 64 * 768 + 64 * 10


@pytest.mark.parametrize(("d", "l", "limit"), [(768, 3072, 614), (512, 512, 256)])
def test_the_break_even_with_the_dense_layer(d: int, l: int, limit: int) -> None:  # noqa: E741
    """m k < d l / (d + l + 1) of the dossier, but for the d of the norm: within one feature of it."""
    below, above = (EUGenLinear(d, l, features=m, device="meta").multiply_adds() for m in (limit - 2, limit + 1))
    assert below < d * l < above


@pytest.mark.parametrize("activation", ["relu", "identity", "gelu", "softplus", "sin"])
@pytest.mark.parametrize("order", [1, 2])
def test_fresh_layers_have_the_variance_of_torch_linear(activation: str, order: int) -> None:
    """A mean square of 1/3 for inputs of variance 1, over 10 layers: within 15 %, but less for sin at order 2."""
    torch.manual_seed(0)
    x = torch.randn(200, 128)
    layers = [EUGenLinear(128, 40, order=order, activation=activation, seed=seed) for seed in range(10)]
    with torch.no_grad():
        power = sum(layer(x).square().mean().item() for layer in layers) / 10
    low = 0.7 if activation == "sin" and order == 2 else 0.85
    assert low < 3 * power < 1.15


# ---- gradients


@pytest.mark.parametrize(
    "options",
    [
        {"order": 1},
        {"order": 2, "activation": "tanh", "shared": False},
        {"order": 2, "activation": "gelu", "one": True},
        {"order": 3, "activation": "identity", "norm": False},
    ],
    ids=str,
)
def test_gradients_by_finite_differences(options: Any) -> None:
    layer = make(3, 2, features=2, projection="trained", dtype=torch.float64, **options)
    x = torch.from_numpy(models.inputs(2, 3, dtype=np.float64)).requires_grad_()

    def forward(x: Any, *parameters: Any) -> Any:
        named = dict(zip(("weight", "bias", "projection"), parameters, strict=True))
        return torch.func.functional_call(layer, named, x)

    assert torch.autograd.gradcheck(forward, (x, layer.weight, layer.bias, layer.projection))


@pytest.mark.parametrize("one", [False, True])
def test_gradients_at_zero_are_finite(one: bool) -> None:
    """|x| has none there: 0 is taken, so what is left is that of the other columns."""
    layer = make(5, 4, activation="identity", one=one, dtype=torch.float64)
    x = torch.zeros(2, 5, dtype=torch.float64, requires_grad=True)
    layer(x).sum().backward()
    ((g,),) = eugen.projections(layer)
    assert_close(x.grad, np.tile(layer.weight.detach().numpy().sum(0) @ g[:, :5], (2, 1)), nmse=1e-26, what="at zero")


def test_random_and_orthogonal_projections_are_not_trained() -> None:
    for projection in ("random", "orthogonal"):
        layer = make(6, 5, projection=projection)
        layer(torch.ones(2, 6)).sum().backward()
        assert {name for name, p in layer.named_parameters() if p.grad is not None} == {"weight", "bias"}
        assert not layer.matrix().requires_grad


# ---- merging


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, True), (False, False)], ids=str)
def test_merged_is_unmerged(projection: str, biases: tuple[bool, bool]) -> None:
    first, second = biases
    layer = make(12, 40, first, features=9, order=2, projection=projection, dtype=torch.float64, seed=2)
    following = nn.Linear(40, 7, bias=second, dtype=torch.float64)
    if projection == "trained":
        nn.init.normal_(layer.projection)
    merged, x = layer.merge(following), torch.from_numpy(models.inputs(5, 12, dtype=np.float64))
    assert merged.weight.shape == (7, 18)
    assert (merged.bias is not None) == (first or second)
    assert_close(merged(x), following(layer(x)), nmse=1e-26, what="merged")
    assert layer.weight.shape == (40, 18)
    assert "out_features=7" in str(merged)
    assert str(eval(str(merged))) == str(merged)


def test_merging_keeps_the_dtype_and_trains() -> None:
    merged = make(12, 40, dtype=torch.bfloat16).merge(nn.Linear(40, 7))
    assert {p.dtype for p in merged.parameters()} == {torch.bfloat16}
    merged(torch.ones(2, 12, dtype=torch.bfloat16)).sum().backward()
    assert all(p.grad is not None for p in merged.parameters())


def test_what_does_not_follow_is_refused() -> None:
    said = (
        "EUGenLinear with out_features=5 cannot merge with a linear layer of in_features=6. Pass the layer that "
        "follows, with 5 inputs."
    )
    with pytest.raises(ShapeError, match=re.escape(said)):
        EUGenLinear(4, 5).merge(nn.Linear(6, 5))


# ---- what every layer keeps


@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 5e-6), (torch.bfloat16, 5e-4)])
@pytest.mark.parametrize("order", [1, 2])
def test_half_precision_stays_near(dtype: torch.dtype, nmse: float, order: int) -> None:
    models.check_half_precision(EUGenLinear(61, 97, order=order), dtype, nmse)


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_autocast(projection: str) -> None:
    models.check_autocast(EUGenLinear(48, 33, projection=projection))


def test_conversions_draw_the_projections_again() -> None:
    """To float64 the answers follow the formula to float64's precision."""
    x = models.inputs(9, 48)
    double = make(48, 33, order=2)
    double(torch.from_numpy(x))  # used in float32 before
    double.to(torch.float64)
    assert_close(double(torch.from_numpy(x).double()), eugen.expected(double, x), nmse=1e-26, what="to float64")


@pytest.mark.parametrize(("projection", "stored"), [("random", 0), ("orthogonal", 1), ("trained", 1)])
def test_copies_hold_what_is_stored(projection: str, stored: int) -> None:
    """d = l = 512, m = 16: 33 KiB of weights and bias, and as much of G where it is stored."""
    layer = EUGenLinear(512, 512, features=16, seed=2**64 - 1, projection=projection)
    models.check_copies(layer, most_bytes=4 * (17 * 512 + stored * 16 * 513) + 7000)


def test_the_matrix_is_made_once() -> None:
    layer = EUGenLinear(30, 20)
    layer(torch.zeros(1, 30))
    assert layer.matrix() is layer.matrix()
    assert copy.deepcopy(layer).matrix() is not layer.matrix()
    assert len(pickle.dumps(layer)) < len(pickle.dumps(EUGenLinear(30, 20))) + 100


def test_training_inference_and_training_again() -> None:
    layer = make(6, 5)
    with torch.inference_mode():
        layer(torch.ones(2, 6))
    layer(torch.ones(2, 6)).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_layers_made_without_memory_come_to_life(projection: str) -> None:
    """On the meta device, then to_empty() and reset_parameters(), as FSDP makes them: G is that of the seed."""
    layer = EUGenLinear(6, 5, order=2, projection=projection, seed=9, device="meta")
    assert layer(torch.zeros(2, 6, device="meta")).shape == (2, 5)
    layer.to_empty(device="cpu").reset_parameters()
    assert torch.equal(layer.matrix(), EUGenLinear(6, 5, order=2, projection=projection, seed=9).matrix())


def test_it_compiles_as_one_graph() -> None:
    """Eager kernels: what is asked is whether the layer is one graph."""
    layer, x = make(6, 5, order=2), torch.ones(2, 6)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert_close(compiled(x), layer(x), nmse=1e-12, what="compiled")


def test_repr_says_how_to_make_it() -> None:
    layer = EUGenLinear(6, 5, False, features=3, order=2, activation="sin", seed=7, projection="trained", one=True)
    assert str(layer) == (
        "EUGenLinear(in_features=6, out_features=5, bias=False, features=3, order=2, activation='sin', seed=7, "
        "projection='trained', shared=True, distribution='gaussian', norm=True, one=True)"
    )
    assert str(eval(str(layer))) == str(layer)


# ---- the ways to be wrong


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 0), (-1, 4)])
def test_sizes_below_one_are_named(n: int, m: int) -> None:
    said = f"EUGenLinear does not support in_features={n}, out_features={m}. Choose integers from 1 to 2**31 - 1."
    with pytest.raises(ShapeError, match=re.escape(said)):
        EUGenLinear(n, m)


@pytest.mark.parametrize(("features", "order"), [(0, 1), (8, 0), (8, 33), (8.0, 1), (8, True)])
def test_features_and_orders_out_of_range_are_named(features: Any, order: Any) -> None:
    said = f"EUGenLinear does not support features={features!r} with order={order!r}. "
    with pytest.raises(
        ShapeError, match=re.escape(said + "Choose features from 1 to 2**31 - 1 and an order from 1 to 32.")
    ):
        EUGenLinear(4, 4, features=features, order=order)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"projection": "learned"}, "unknown projection 'learned'. Choose one of: random, orthogonal, trained."),
        ({"activation": "swish"}, "unknown activation 'swish'. Choose one of: identity, relu, "),
        ({"distribution": "cauchy"}, "unknown distribution 'cauchy'. Choose one of: "),
        (
            {"projection": "orthogonal", "distribution": "rademacher"},
            "EUGenLinear does not support orthogonal projections with distribution='rademacher'. Use "
            "distribution='gaussian', or projection='random'.",
        ),
        ({"seed": -1}, "seed must be an integer from 0 to 2**64 - 1, got -1"),
    ],
)
def test_unknown_choices_are_named(options: Any, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        EUGenLinear(4, 4, **options)


@pytest.mark.parametrize("shape", [(2, 7), (8, 2), ()])
def test_inputs_of_another_width_are_named_with_both_sizes(shape: tuple[int, ...]) -> None:
    said = f"EUGenLinear expects inputs of shape (..., 8), got {shape}. Change the size of the last axis to 8."
    with pytest.raises(ShapeError, match=re.escape(said)):
        EUGenLinear(8, 5)(torch.zeros(shape))


# ---- the comparisons can fail


@pytest.mark.parametrize("shared", [True, False])
def test_the_neighbouring_seed_is_noticed(shared: bool) -> None:
    layer, other = (EUGenLinear(16, 16, order=2, seed=seed, shared=shared, dtype=torch.float64) for seed in (0, 1))
    models.take_weights(other, layer)
    x = models.inputs(4, 16, dtype=np.float64)
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(torch.from_numpy(x)), eugen.expected(other, x), nmse=1e-26, what="seed")
