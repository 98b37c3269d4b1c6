"""PRPEmbedding in torch: against its table written again in numpy, gradients, the fit, and the ways to be wrong.

Its exported form is in test_bodies_prp_embedding.py.
"""

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc import PRPEmbedding, generator
from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common import seeded
from edgefc.layers.common.checkpoint import holds_weights
from edgefc.testing import assert_close

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([61, 64, 97, 300]))
DISTRIBUTIONS = sorted(generator.CODEBOOKS)
BITWISE = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def make(v: int = 20, d: int = 12, *, dtype: Any = torch.float64, **options: Any) -> PRPEmbedding:
    """A layer with scales far from one."""
    torch.manual_seed(0)
    layer = PRPEmbedding(v, d, dtype=dtype, **options)
    with torch.no_grad():
        for scale in layer.parameters():
            scale.mul_(torch.randn_like(scale))
    return layer


def table(layer: PRPEmbedding) -> NDArray[np.float64]:
    """e_v = row_scale[v] (P[v] * column_scale), in float64 by numpy."""
    p = generator.matrix(layer.seed, layer.num_embeddings, layer.embedding_dim, layer.distribution).astype(np.float64)
    rows, columns = (scale.detach().double().numpy() for scale in (layer.row_scale, layer.column_scale))
    result: NDArray[np.float64] = rows[:, None] * p * columns
    return result


def tokens(v: int, *shape: int, dtype: Any = np.int64) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, v, shape).astype(dtype)


@given(
    v=SIZES,
    d=SIZES,
    distribution=st.sampled_from(DISTRIBUTIONS),
    seed=st.integers(0, 2**64 - 1),
    shape=st.sampled_from([(9,), (), (2, 3), (2, 1, 3)]),
    dtype=st.sampled_from([np.int32, np.int64]),
)
@settings(max_examples=80, deadline=None)
def test_forward_looks_rows_of_the_table_up(
    v: int, d: int, distribution: str, seed: int, shape: tuple[int, ...], dtype: Any
) -> None:
    layer = make(v, d, distribution=distribution, seed=seed)
    np.testing.assert_allclose(layer.dense().numpy(), table(layer), rtol=1e-14)
    x = tokens(v, *shape, dtype=dtype)
    y = layer(torch.from_numpy(np.asarray(x)))
    assert y.shape == (*shape, d)
    np.testing.assert_allclose(y.detach().numpy(), table(layer)[x], rtol=1e-14)


def test_the_table_written_out() -> None:
    """V = 3, D = 2, Rademacher, by hand: rows scaled by 2, 3, 5, columns by 1, 10."""
    layer = PRPEmbedding(3, 2, distribution="rademacher", seed=1)
    layer.row_scale.data, layer.column_scale.data = torch.tensor([2.0, 3.0, 5.0]), torch.tensor([1.0, 10.0])
    by_hand = np.array([[2, 20], [3, 30], [5, 50]]) * generator.matrix(1, 3, 2, "rademacher")
    assert_close(layer(torch.arange(3)), by_hand, nmse=1e-14, what="forward")


@pytest.mark.parametrize(("v", "d"), [(384, 768), (50_000, 512)])
def test_large_vocabularies(v: int, d: int) -> None:
    """Against the rows asked for only: numpy's whole table of the second would take 200 MB."""
    layer, x = make(v, d, dtype=torch.float32), np.unique(tokens(v, 30))
    words = generator.words(layer.seed, x.astype(np.uint32), np.arange(d // 8, dtype=np.uint32))
    codes = (words[:, :, None] >> np.arange(0, 32, 4, dtype=np.uint32) & np.uint32(15)).reshape(len(x), d)
    p = np.array(generator.codebook("gaussian").levels)[codes]
    rows, columns = (scale.detach().double().numpy() for scale in (layer.row_scale, layer.column_scale))
    assert_close(layer(torch.from_numpy(x)), rows[x, None] * p * columns, nmse=1e-13, what="rows")


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_no_tokens_give_no_rows(shape: tuple[int, ...]) -> None:
    assert make()(torch.zeros(shape, dtype=torch.long)).shape == (*shape, 12)


@pytest.mark.parametrize("dtype", BITWISE)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_rows_of_the_seeded_matrix_are_its_rows(distribution: str, dtype: torch.dtype) -> None:
    """By any index, to the bit."""
    matrix = seeded.matrix(2**63 + 5, 600, 37, distribution, dtype=dtype, device="cpu")
    expected = torch.from_numpy(generator.matrix(2**63 + 5, 600, 37, distribution)).to(dtype)
    assert torch.equal(matrix, expected)
    for index in (torch.tensor([[599, 0, 3], [3, 257, 256]]), torch.tensor(7, dtype=torch.int32), torch.arange(0)):
        rows = seeded.rows_of(2**63 + 5, index, 37, distribution, dtype=dtype)
        assert torch.equal(rows, expected[index.long()])


# ---- gradients


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_gradients_by_finite_differences(distribution: str) -> None:
    layer, x = make(7, 5, distribution=distribution, seed=3), torch.tensor([[1, 6], [1, 0]])

    def forward(row_scale: Tensor, column_scale: Tensor) -> Any:
        return torch.func.functional_call(layer, {"row_scale": row_scale, "column_scale": column_scale}, x)

    assert torch.autograd.gradcheck(forward, (layer.row_scale, layer.column_scale))


def test_gradients_are_the_closed_form() -> None:
    """dL/drow[v] = sum over tokens v of g . (P[v] column), dL/dcolumn = sum of g row[v] P[v]."""
    layer, x = make(20, 12, seed=9), tokens(20, 30)
    g = np.random.default_rng(1).standard_normal((30, 12))
    layer(torch.from_numpy(x)).backward(torch.from_numpy(g))
    p = generator.matrix(9, 20, 12, "gaussian").astype(np.float64)
    rows, columns = layer.row_scale.detach().numpy(), layer.column_scale.detach().numpy()
    by_row = np.zeros(20)
    np.add.at(by_row, x, (g * p[x] * columns).sum(1))
    assert_close(layer.row_scale.grad, by_row, nmse=1e-26, what="dL/drow")
    assert_close(layer.column_scale.grad, (g * rows[x, None] * p[x]).sum(0), nmse=1e-26, what="dL/dcolumn")
    assert [name for name, _ in layer.named_parameters()] == ["row_scale", "column_scale"]
    assert not [name for name, _ in layer.named_buffers() if holds_weights(name)]


@pytest.mark.parametrize("padding_idx", [0, 4, 19, -1, -20])
def test_the_padding_row_is_zero_and_does_not_learn(padding_idx: int) -> None:
    """As torch.nn.Embedding's, negative ones counted from the end."""
    layer, x = PRPEmbedding(20, 12, padding_idx=padding_idx), torch.arange(20)
    y = layer(x)
    y.square().sum().backward()
    row = nn.Embedding(20, 12, padding_idx=padding_idx).padding_idx
    assert layer.padding_idx == row
    assert layer.row_scale.grad is not None
    assert [v for v in range(20) if not y[v].any()] == [row]
    assert [v for v in range(20) if not layer.row_scale.grad[v]] == [row]
    assert not layer.dense()[row].any()


# ---- the fit to a table


@pytest.mark.parametrize(
    ("v", "d", "distribution"), [(24, 24, "rademacher"), (40, 9, "gaussian"), (9, 40, "ternary"), (9, 40, "uniform")]
)
def test_from_embedding_recovers_another_prp_table(v: int, d: int, distribution: str) -> None:
    torch.manual_seed(0)
    original = PRPEmbedding(v, d, distribution=distribution, seed=6, dtype=torch.float64)
    embedding = nn.Embedding.from_pretrained(original.dense(), padding_idx=3)
    fitted = PRPEmbedding.from_embedding(embedding, distribution=distribution, seed=6)
    assert fitted.padding_idx == 3
    assert_close(fitted.dense(), original.dense(), nmse=1e-18, what="table")


def test_from_embedding_is_nearer_than_plain_scales() -> None:
    embedding = nn.Embedding(40, 12, dtype=torch.float64)
    p = generator.matrix(1, 40, 12, "gaussian")
    weight = embedding.weight.detach().numpy()
    distance = np.linalg.norm(PRPEmbedding.from_embedding(embedding, seed=1).dense().numpy() - weight)
    for axes in ((0, 1), 1, 0):
        best = p * (p * weight).sum(axis=axes, keepdims=True) / np.square(p).sum(axis=axes, keepdims=True)
        assert distance <= np.linalg.norm(best - weight)


def test_from_embedding_keeps_the_padding_row_and_the_dtype() -> None:
    layer = PRPEmbedding.from_embedding(nn.Embedding(9, 5, padding_idx=-2, dtype=torch.float16))
    assert (layer.padding_idx, layer.row_scale.dtype) == (7, torch.float16)
    assert not layer.dense()[7].any()


def test_tables_that_renormalise_are_refused() -> None:
    said = (
        "PRPEmbedding cannot replace an Embedding with max_norm=1.0: it stores no rows to renormalise. Renormalise "
        "the rows, then set max_norm to None."
    )
    with pytest.raises(UsageError, match=re.escape(said)):
        PRPEmbedding.from_embedding(nn.Embedding(9, 5, max_norm=1.0))


# ---- numbers stored, numbers drawn


@pytest.mark.parametrize(("v", "d"), [(1, 1), (50_000, 512)])
def test_it_stores_v_and_d_numbers(v: int, d: int) -> None:
    assert sum(p.numel() for p in PRPEmbedding(v, d).parameters()) == v + d


def test_multiply_adds_are_both_scales() -> None:
    assert PRPEmbedding(50, 12).multiply_adds() == 24


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_fresh_entries_have_nearly_unit_variance(distribution: str) -> None:
    """As torch.nn.Embedding's: (1 + 1/D)^2 within 3 % over 20 layers, from scales of N(1, 1/D)."""
    torch.manual_seed(0)
    tables = [PRPEmbedding(64, 64, distribution=distribution, seed=seed).dense() for seed in range(20)]
    power = float(torch.stack(tables).square().mean())
    assert abs(power / (1 + 1 / 64) ** 2 - 1) < 0.03


def test_a_lookup_never_makes_the_table() -> None:
    """The table would take 100 MB; a lookup of 60 tokens allocates less than 2."""
    layer, x = PRPEmbedding(50_000, 512), torch.arange(60)
    layer(x)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        layer(x)
    allocated = [event.cpu_memory_usage for event in profile.key_averages()]
    assert 60 * 512 * 4 <= max(allocated) < 2e6


# ---- what every layer keeps


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounding(dtype: torch.dtype) -> None:
    layer = make(dtype=dtype)
    y = layer(torch.arange(20))
    assert y.dtype == dtype
    nmse = 2e-6 if dtype == torch.float16 else 1e-4
    assert_close(y, copy.deepcopy(layer).double()(torch.arange(20)), nmse=nmse, what=str(dtype))


def test_autocast_leaves_it_alone() -> None:
    layer = make(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(torch.arange(20)), layer(torch.arange(20)))
        assert layer(torch.arange(20)).dtype == torch.float32


def test_copies_answer_alike() -> None:
    layer, x = make(seed=2**64 - 1, distribution="ternary"), torch.arange(20)
    fresh = PRPEmbedding(20, 12, seed=2**64 - 1, distribution="ternary", dtype=torch.float64)
    fresh.load_state_dict(layer.state_dict())
    pickled = pickle.dumps(layer)
    assert len(pickled) < 5000
    for other in (fresh, copy.deepcopy(layer), pickle.loads(pickled)):
        assert torch.equal(other(x), layer(x))
        assert str(other) == str(layer)


@pytest.mark.slow
def test_compiles_whole() -> None:
    layer = make()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for x in (torch.arange(6).view(2, 3), torch.arange(20).view(4, 5)):
        assert_close(compiled(x), layer(x), nmse=1e-26, what="compiled")


def test_repr_says_how_to_make_it() -> None:
    layer = PRPEmbedding(20, 12, padding_idx=-1, distribution="ternary", seed=7)
    said = "PRPEmbedding(num_embeddings=20, embedding_dim=12, padding_idx=19, distribution='ternary', seed=7)"
    assert str(layer) == said
    assert str(eval(said)) == said
    assert (
        str(PRPEmbedding(2, 1, seed=0))
        == "PRPEmbedding(num_embeddings=2, embedding_dim=1, distribution='gaussian', seed=0)"
    )


# ---- the ways to be wrong


@pytest.mark.parametrize(("v", "d"), [(0, 4), (4, 0), (-1, 4), (4, 2.0)])
def test_sizes_below_one_are_named(v: Any, d: Any) -> None:
    said = f"PRPEmbedding does not support num_embeddings={v}, embedding_dim={d}. Choose integers from 1 to 2**31 - 1."
    with pytest.raises(ShapeError, match=re.escape(said)):
        PRPEmbedding(v, d)


@pytest.mark.parametrize("padding_idx", [20, -21, 1.5, "0"])
def test_padding_that_is_no_entry_is_named(padding_idx: Any) -> None:
    said = f"PRPEmbedding has 20 entries, got padding_idx={padding_idx!r}. Choose an integer from 0 to 19, or None."
    with pytest.raises(UsageError, match=re.escape(said)):
        PRPEmbedding(20, 4, padding_idx=padding_idx)


@pytest.mark.parametrize(("given", "least", "most"), [([3, 20], 3, 20), ([-1, 5], -1, 5)])
def test_tokens_out_of_range_are_named(given: list[int], least: int, most: int) -> None:
    said = (
        f"PRPEmbedding expects tokens from 0 to 19, got tokens from {least} to {most}. "
        "Use tokens in this range, or increase num_embeddings."
    )
    with pytest.raises(UsageError, match=re.escape(said)):
        make()(torch.tensor(given))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int16])
def test_tokens_of_other_types_are_named(dtype: torch.dtype) -> None:
    said = f"PRPEmbedding expects int32 or int64 tokens, got {dtype}. Convert: x.long()."
    with pytest.raises(UsageError, match=re.escape(said)):
        make()(torch.ones(3, dtype=dtype))


def test_an_unknown_distribution_is_named() -> None:
    with pytest.raises(
        UsageError, match=r"unknown distribution 'orthogonal'\. Choose one of: rademacher, gaussian, ternary"
    ):
        PRPEmbedding(4, 4, distribution="orthogonal")


def test_seeds_that_are_not_of_64_bits_are_refused() -> None:
    with pytest.raises(UsageError, match=re.escape("seed must be an integer from 0 to 2**64 - 1, got -1")):
        PRPEmbedding(4, 4, seed=-1)


# ---- the comparisons can fail


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_neighbouring_seed_is_noticed(distribution: str) -> None:
    layer, other = (make(distribution=distribution, seed=seed) for seed in (0, 1))
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(torch.arange(20)), table(other), nmse=1e-20, what="seed")
