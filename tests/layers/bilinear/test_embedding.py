"""BilinearEmbedding in torch: against the table entry by entry, without ever making it, and the ways to be wrong.

Its exported form is in test_bodies_bilinear_embedding.py.
"""

import copy
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgefc import BilinearEmbedding
from edgefc.errors import ShapeError, UsageError
from edgefc.testing import assert_close
from tests.support import bilinear_models as bilinear
from tests.support import layer_models as models

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([61, 97, 384]))


def make(*args: Any, **options: Any) -> Any:
    return models.randomise(BilinearEmbedding(*args, **options))  # type: ignore[type-var]


@given(v=SIZES, d=SIZES, terms=st.integers(1, 3), data=st.data())
@settings(max_examples=40, deadline=None)
def test_rows_are_those_of_the_kronecker_product(v: int, d: int, terms: int, data: st.DataObject) -> None:
    """For every size: all tokens in any order and shape, both index types, and the table itself."""
    layer = make(v, d, terms=terms, dtype=torch.float64)
    table = bilinear.kronecker(layer, v, d)
    shape = data.draw(st.sampled_from([(), (5,), (2, 3)]))
    tokens = torch.randint(v, shape, dtype=data.draw(st.sampled_from([torch.int32, torch.int64])))
    assert_close(layer(tokens), table[tokens.numpy()], nmse=1e-28, what="rows")
    assert_close(layer(torch.arange(v)), table, nmse=1e-28, what="all rows")
    assert_close(layer.dense(), table, nmse=1e-28, what="dense")


def test_the_row_written_out() -> None:
    """6 = 2 x 3 tokens of 4 = 2 x 2 numbers: token 4 is row 1 of the one and row 1 of the other."""
    layer = BilinearEmbedding(6, 4)
    layer.left.data = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    layer.right.data = torch.tensor([[[1.0, 1.0], [10.0, 100.0], [7.0, 7.0]]])
    assert layer(torch.tensor(4)).tolist() == [30.0, 300.0, 40.0, 400.0]


def test_a_vocabulary_whose_table_no_machine_holds() -> None:
    """10^9 tokens of 1024 numbers would be 4 terabytes; two rows are looked up in 8 megabytes, forward and backward."""
    layer = BilinearEmbedding(10**9, 1024)
    tokens = torch.tensor([0, 999_999_999, 123_456_789])
    rows = layer(tokens)
    left, right = bilinear.numbers(layer.left)[0], bilinear.numbers(layer.right)[0]
    d2 = len(right)
    assert_close(rows, np.stack([np.outer(left[v // d2], right[v % d2]).ravel() for v in tokens.tolist()]),
                 nmse=1e-12, what="rows")  # fmt: skip
    rows.sum().backward()
    assert layer.left.grad is not None
    assert layer.left.grad.any(-1).sum() == 3


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_no_tokens_give_no_rows(shape: tuple[int, ...]) -> None:
    assert BilinearEmbedding(12, 7)(torch.zeros(shape, dtype=torch.int64)).shape == (*shape, 7)


@pytest.mark.parametrize("terms", bilinear.TERMS)
def test_gradients_by_finite_differences(terms: int) -> None:
    layer, tokens = make(7, 5, terms=terms, padding_idx=2, dtype=torch.float64), torch.tensor([[0, 6, 6], [2, 3, 5]])

    def forward(left: Any, right: Any) -> Any:
        return torch.func.functional_call(layer, {"left": left, "right": right}, tokens)

    assert torch.autograd.gradcheck(forward, (layer.left, layer.right))


@pytest.mark.parametrize("padding_idx", [0, 5, -1])
def test_the_padding_token_is_zero_and_teaches_nothing(padding_idx: int) -> None:
    layer, token = make(6, 4, padding_idx=padding_idx), torch.tensor(padding_idx % 6)
    assert not layer(token).any()
    assert not layer.dense()[token].any()
    assert layer.dense().any(1).sum() == 5
    layer(token).sum().backward()
    assert not layer.left.grad.any()
    assert not layer.right.grad.any()


# ---- the nearest


@pytest.mark.parametrize("terms", bilinear.TERMS)
@pytest.mark.parametrize(("v", "d", "nmse"), [(24, 12, 1e-12), (23, 7, 1e-4)])
def test_from_embedding_finds_what_a_layer_was_made_of(v: int, d: int, nmse: float, terms: int) -> None:
    original = make(v, d, terms=terms)
    fitted = BilinearEmbedding.from_embedding(nn.Embedding.from_pretrained(original.dense()), terms=terms)
    assert_close(fitted.dense(), original.dense(), nmse=nmse, what="table")


def test_from_embedding_takes_padding_and_dtype() -> None:
    layer = BilinearEmbedding.from_embedding(nn.Embedding(12, 6, padding_idx=3, dtype=torch.float64))
    assert (layer.padding_idx, layer.left.dtype) == (3, torch.float64)


def test_embeddings_that_renormalise_are_refused() -> None:
    said = "BilinearEmbedding cannot replace an Embedding with max_norm=1.0"
    with pytest.raises(UsageError, match=re.escape(said)):
        BilinearEmbedding.from_embedding(nn.Embedding(12, 6, max_norm=1.0))


# ---- what every layer keeps


def test_it_stores_and_takes_what_its_docstring_says() -> None:
    layer = BilinearEmbedding(32_000, 768)
    assert (sum(p.numel() for p in layer.parameters()), layer.multiply_adds()) == (10_240, 768)
    assert BilinearEmbedding(32_000, 768, terms=3).multiply_adds() == 3 * 768


@pytest.mark.parametrize("terms", [1, 4])
def test_fresh_tables_start_as_the_authors(terms: int) -> None:
    """Products of two numbers uniform in +-0.05, variance (0.05^2 / 3)^2, whatever the number of terms."""
    torch.manual_seed(0)
    spread = math.sqrt(BilinearEmbedding(2500, 1024, terms=terms).dense().double().square().mean().item())
    assert spread == pytest.approx(0.05**2 / 3, rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    layer = make(13, 10, terms=2).to(dtype)
    y = layer(torch.arange(13))
    assert y.dtype == dtype
    assert_close(y, bilinear.kronecker(layer, 13, 10), nmse=1e-6 if dtype == torch.float16 else 1e-4, what=str(dtype))


def test_copies_hold_the_factors() -> None:
    layer, tokens = make(60, 48, padding_idx=1), torch.arange(60)
    fresh = BilinearEmbedding(60, 48, padding_idx=1)
    fresh.load_state_dict(layer.state_dict())
    for other in (fresh, copy.deepcopy(layer), models.pickle.loads(models.pickle.dumps(layer))):
        assert torch.equal(other(tokens), layer(tokens))
        assert str(other) == str(layer)
    assert len(models.pickle.dumps(layer)) < 4 * (6 * 6 + 10 * 8) + 4096


def test_autocast() -> None:
    layer, tokens = make(12, 6), torch.arange(12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(tokens)
    assert_close(y, bilinear.kronecker(layer, 12, 6), nmse=1e-4, what="autocast")


def test_compiles_without_breaks() -> None:
    layer, tokens = make(12, 7, padding_idx=1), torch.arange(12)
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="eager")(tokens), layer(tokens))


def test_repr_says_how_to_make_it() -> None:
    layer = BilinearEmbedding(11, 10, padding_idx=-1, terms=2)
    said = "num_embeddings=11, embedding_dim=10, padding_idx=10, terms=2, in_factors=(3, 4), out_factors=(2, 5)"
    assert str(layer) == f"BilinearEmbedding({said})"
    assert str(eval(str(layer))) == str(layer)


# ---- the ways to be wrong


@pytest.mark.parametrize(("v", "d"), [(0, 4), (4, 0), (-1, 4), (2.0, 4)])
def test_sizes_below_one_are_named(v: Any, d: Any) -> None:
    said = (
        f"BilinearEmbedding does not support num_embeddings={v!r}, embedding_dim={d!r}. "
        "Choose integers from 1 to 2**31 - 1."
    )
    with pytest.raises(ShapeError, match=re.escape(said)):
        BilinearEmbedding(v, d)


@pytest.mark.parametrize(("low", "high"), [(-1, 6), (0, 7), (7, 7), (0, 100)])
def test_tokens_out_of_range_are_named(low: int, high: int) -> None:
    """7 is among them: the factors would hold 8 tokens."""
    said = (
        f"BilinearEmbedding expects tokens from 0 to 6, got tokens from {low} to {high}. "
        "Use tokens in this range, or increase num_embeddings."
    )
    with pytest.raises(UsageError, match=re.escape(said)):
        BilinearEmbedding(7, 4)(torch.tensor([low, high]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16, torch.bool])
def test_tokens_of_another_type_are_named(dtype: torch.dtype) -> None:
    said = f"BilinearEmbedding expects int32 or int64 tokens, got {dtype}. Convert: x.long()."
    with pytest.raises(UsageError, match=re.escape(said)):
        BilinearEmbedding(7, 4)(torch.zeros(3, dtype=dtype))


@pytest.mark.parametrize("padding_idx", [7, -8, 1.0])
def test_padding_that_is_no_token_is_named(padding_idx: Any) -> None:
    said = f"BilinearEmbedding has 7 entries, got padding_idx={padding_idx!r}. Choose an integer from 0 to 6, or None."
    with pytest.raises(UsageError, match=re.escape(said)):
        BilinearEmbedding(7, 4, padding_idx=padding_idx)


# ---- the comparisons can fail


def test_swapped_entries_are_noticed() -> None:
    layer = make(12, 6)
    table = bilinear.kronecker(layer, 12, 6)
    layer.right.data[0, [1, 2], 0] = layer.right.data[0, [2, 1], 0]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(torch.arange(12)), table, nmse=1e-7, what="swapped")
