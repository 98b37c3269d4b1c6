"""TiedAttention in torch: against the formula in numpy, against nn.MultiheadAttention with the matrices written in.

Its exported form is in test_bodies_tied_attention.py.
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
from torch import nn

from edgefc import TiedAttention
from edgefc.errors import ShapeError, UsageError
from edgefc.testing import assert_close
from tests.support import layer_models as models

Array = NDArray[np.float64]
TIES = ("vo", "vo+qk_t", "vo+qk")
every_tie = pytest.mark.parametrize("tie", TIES)


def expected(layer: TiedAttention, x: NDArray[Any], memory: NDArray[Any]) -> Array:
    """One row of the docstring's table after the other, in float64, head by head; x (N, L, E), memory (N, S, E)."""
    numbers = {name: value.detach().double().numpy() for name, value in layer.state_dict().items()}
    w_q, w_v = numbers["q_proj.weight"], numbers["v_proj.weight"]
    w_k = {"vo": numbers.get("k_proj.weight"), "vo+qk_t": w_q.T, "vo+qk": w_q}[layer.tie]
    b_q, b_k, b_v, b_o = (numbers.get(f"{name}_proj.bias", 0.0) for name in ("q", "k", "v", "out"))
    q, k, v = x @ w_q.T + b_q, memory @ w_k.T + b_k, memory @ w_v.T + b_v
    size = layer.embed_dim // layer.num_heads
    heads = []
    for head in range(layer.num_heads):
        at = slice(head * size, (head + 1) * size)
        scores = q[..., at] @ k[..., at].swapaxes(1, 2) / np.sqrt(size)
        mixing = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(mixing / mixing.sum(-1, keepdims=True) @ v[..., at])
    y: Array = np.concatenate(heads, -1) @ w_v + b_o  # rows times W_V: W_V^T on columns
    return y


def make(width: int, heads: int, tie: str, **options: Any) -> TiedAttention:
    """With biases that are not zero."""
    torch.manual_seed(3)
    layer = TiedAttention(width, heads, batch_first=True, tie=tie, **options)
    for name, parameter in layer.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return layer


@given(
    heads=st.integers(1, 5),
    size=st.integers(1, 9),
    tie=st.sampled_from(TIES),
    bias=st.booleans(),
    queries=st.integers(1, 6),
    keys=st.integers(1, 6),
    need_weights=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_forward_is_the_formula(
    heads: int, size: int, tie: str, bias: bool, queries: int, keys: int, need_weights: bool
) -> None:
    layer = make(heads * size, heads, tie, bias=bias, dtype=torch.float64)
    x, memory = (models.inputs(2, n, heads * size, seed=n, dtype=np.float64) for n in (queries, keys))
    tensors = torch.from_numpy(x), torch.from_numpy(memory), torch.from_numpy(memory)
    y, weights = layer(*tensors, need_weights=need_weights)
    assert_close(y, expected(layer, x, memory), nmse=1e-22, what="forward")
    assert (weights is not None) == need_weights


@every_tie
@pytest.mark.parametrize(("width", "heads"), [(384, 6), (768, 12), (61, 1)])
def test_larger_sizes(width: int, heads: int, tie: str) -> None:
    layer, x = make(width, heads, tie), models.inputs(2, 7, width)
    tensor = torch.from_numpy(x)
    assert_close(layer(tensor, tensor, tensor)[0], expected(layer, x, x), nmse=1e-12, what="forward")


@every_tie
@pytest.mark.parametrize("batch_first", [True, False])
def test_it_is_torchs_layer_with_the_matrices_written_in(tie: str, batch_first: bool) -> None:
    """By hand, not by dense(); with masks, weights and their average."""
    layer = make(12, 3, tie, dtype=torch.float64)
    layer.batch_first = batch_first
    theirs = nn.MultiheadAttention(12, 3, batch_first=batch_first, dtype=torch.float64)
    w_q, w_v = layer.state_dict()["q_proj.weight"], layer.state_dict()["v_proj.weight"]
    w_k = {"vo": layer.state_dict().get("k_proj.weight"), "vo+qk_t": w_q.t(), "vo+qk": w_q}[tie]
    assert w_k is not None
    biases = {name: value for name, value in layer.state_dict().items() if name.endswith("bias")}
    theirs.load_state_dict({
        "in_proj_weight": torch.cat([w_q, w_k, w_v]), "out_proj.weight": w_v.t(),
        "in_proj_bias": torch.cat([biases[f"{name}_proj.bias"] for name in "qkv"]),
        "out_proj.bias": biases["out_proj.bias"],
    })  # fmt: skip
    x = torch.randn(*((2, 5) if batch_first else (5, 2)), 12, dtype=torch.float64)
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    for options in ({}, {"key_padding_mask": padding}, {"attn_mask": causal}, {"average_attn_weights": False}):
        mine, weights = layer(x, x, x, **options)
        other, their_weights = theirs(x, x, x, **options)
        assert_close(mine, other, nmse=1e-24, what=f"{options}")
        assert_close(weights, their_weights, nmse=1e-24, what=f"weights, {options}")
        assert_close(layer(x, x, x, need_weights=False, **options)[0], other, nmse=1e-24, what="without weights")
        assert_close(layer.dense()(x, x, x, **options)[0], other, nmse=1e-24, what="dense()")


def test_scores_are_symmetric_where_keys_are_made_as_queries_are() -> None:
    """The weights before the softmax: W_Q for both gives x_i' W' W x_j; the transpose for keys does not."""
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    ratios = {}
    for tie in TIES:
        layer = TiedAttention(8, 2, batch_first=True, tie=tie, dtype=torch.float64)
        log = layer(x, x, x, average_attn_weights=False)[1].detach().log()
        ratios[tie] = float((log - log.transpose(-1, -2) - _rank_two(log - log.transpose(-1, -2))).norm())
    assert ratios["vo+qk"] < 1e-10 < min(ratios["vo"], ratios["vo+qk_t"])


def _rank_two(difference: torch.Tensor) -> torch.Tensor:
    """a_i - a_j, which the normalisation of the rows leaves of symmetric scores."""
    a = difference.mean(-1)
    return a[..., :, None] - a[..., None, :]


def test_empty_batches_give_empty_answers() -> None:
    x = torch.zeros(0, 5, 12)
    assert TiedAttention(12, 3, batch_first=True)(x, x, x)[0].shape == (0, 5, 12)


# ---- one W


@pytest.mark.parametrize(("tie", "matrices"), [("vo", 3), ("vo+qk_t", 2), ("vo+qk", 2)])
def test_each_matrix_is_counted_and_stored_once(tie: str, matrices: int) -> None:
    layer = TiedAttention(64, 4, tie=tie)
    assert sum(p.numel() for p in layer.parameters()) == matrices * 64**2 + 4 * 64
    assert sum(value.numel() for value in layer.state_dict().values()) == matrices * 64**2 + 4 * 64
    assert layer.multiply_adds() == 4 * 64**2


def test_the_counts_in_its_docstring() -> None:
    with torch.device("meta"):
        layers = [TiedAttention(768, 12, tie=tie) for tie in TIES]
        torchs = nn.MultiheadAttention(768, 12)
    counts = [sum(p.numel() for p in layer.parameters()) for layer in (*layers, torchs)]
    assert counts == [1_772_544, 1_182_720, 1_182_720, 2_362_368]


@every_tie
def test_copies_share_as_the_original_does(tie: str) -> None:
    """State dict, deep copy, pickle, another dtype: the same answers, and new numbers reach both uses."""
    layer, x = make(16, 4, tie), torch.randn(2, 3, 16)
    fresh = TiedAttention(16, 4, batch_first=True, tie=tie)
    fresh.load_state_dict(layer.state_dict())
    assigned = TiedAttention(16, 4, batch_first=True, tie=tie, device="meta")
    assigned.load_state_dict(copy.deepcopy(layer.state_dict()), assign=True)
    copies = fresh, assigned, pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), copy.deepcopy(layer).double()
    for other in copies:
        values = x.to(next(other.parameters()).dtype)
        assert_close(other(values, values, values)[0], layer(x, x, x)[0], nmse=1e-12, what="copy")
        assert str(other) == str(layer)
        nn.init.zeros_(other.get_parameter("v_proj.weight"))
        bias = other.get_parameter("out_proj.bias")
        assert torch.equal(other(values, values, values)[0], bias.expand(2, 3, 16))


# ---- gradients


@every_tie
def test_gradients_by_finite_differences(tie: str) -> None:
    layer = make(4, 2, tie, dtype=torch.float64)
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def forward(x: Any, *weights: Any) -> Any:
        given = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(layer, given, (x, x, x), {"need_weights": False})[0]

    assert torch.autograd.gradcheck(forward, (x, *layer.parameters()))


@every_tie
def test_the_gradient_is_the_sum_of_both_uses(tie: str) -> None:
    layer = make(8, 2, tie, dtype=torch.float64)
    untied = layer.dense()
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    for module in (layer, untied):
        module(x, x, x)[0].square().sum().backward()
    by_q, by_k, by_v = untied.in_proj_weight.grad.chunk(3)  # type: ignore[union-attr]
    by_out = untied.out_proj.weight.grad.t()  # type: ignore[union-attr]
    by_first = {"vo": by_q, "vo+qk_t": by_q + by_k.t(), "vo+qk": by_q + by_k}[tie]
    grads = {name: parameter.grad for name, parameter in layer.named_parameters()}
    assert_close(grads["v_proj.weight"], by_v + by_out, nmse=1e-24, what="dL/dW_V")  # type: ignore[arg-type]
    assert_close(grads["q_proj.weight"], by_first, nmse=1e-24, what="dL/dW_Q")  # type: ignore[arg-type]


# ---- the nearest layer


@every_tie
@pytest.mark.parametrize("bias", [True, False])
def test_from_attention_is_the_least_squares_fit(tie: str, bias: bool) -> None:
    """No nudge of a shared matrix brings the four matrices nearer; the biases are theirs."""
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(6, 2, bias=bias, batch_first=True, dtype=torch.float64)
    layer = TiedAttention.from_attention(attention, tie=tie)

    def distance() -> float:
        dense = layer.dense()
        both = (dense.in_proj_weight - attention.in_proj_weight, dense.out_proj.weight - attention.out_proj.weight)
        return float(sum(part.detach().square().sum() for part in both))

    best = distance()
    for parameter in (p for p in layer.parameters() if p.ndim == 2):
        kept = parameter.detach().clone()
        for _ in range(10):
            parameter.data = kept + 1e-3 * torch.randn_like(kept)
            assert distance() > best
        parameter.data = kept
    if bias:
        nn.init.normal_(attention.in_proj_bias)
        again = TiedAttention.from_attention(attention, tie=tie).dense()
        assert torch.equal(again.in_proj_bias, attention.in_proj_bias)


@every_tie
def test_from_attention_returns_a_tied_layer_as_it_was(tie: str) -> None:
    layer = make(12, 3, tie, dropout=0.25)
    again = TiedAttention.from_attention(layer.dense(), tie=tie)
    assert str(again) == str(layer)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


# ---- in the place of others


@pytest.mark.parametrize("training", [True, False])
def test_in_a_transformer_encoder_layer(training: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(16, 2, 40, dropout=0.0, batch_first=True)
    layer = copy.deepcopy(theirs)
    tied = make(16, 2, "vo")
    layer.self_attn, theirs.self_attn = tied, tied.dense()  # type: ignore[assignment]
    layer.train(training), theirs.train(training)
    x = torch.randn(3, 5, 16)
    with torch.no_grad():
        assert_close(layer(x), theirs(x), nmse=1e-11, what="block")


# ---- what every layer keeps


@every_tie
@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 1e-5), (torch.bfloat16, 1e-3)])
def test_half_precision(dtype: torch.dtype, nmse: float, tie: str) -> None:
    half = make(36, 3, tie).to(dtype)
    x = torch.randn(2, 5, 36, dtype=dtype)
    y = half(x, x, x)[0]
    assert y.dtype == dtype
    full = x.float()
    assert_close(y, copy.deepcopy(half).float()(full, full, full)[0], nmse=nmse, what=str(dtype))


def test_autocast() -> None:
    layer, x = make(24, 3, "vo+qk_t"), torch.randn(2, 5, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x, x, x, need_weights=False)[0]
    assert_close(y, layer(x, x, x)[0], nmse=1e-3, what="autocast")
    y.float().square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())


def test_it_compiles_whole() -> None:
    layer, x = make(8, 2, "vo+qk_t"), torch.randn(2, 3, 8)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert_close(compiled(x, x, x)[0], layer(x, x, x)[0], nmse=1e-12, what="compiled")


def test_repr_says_how_to_make_it() -> None:
    first = str(TiedAttention(6, 2, tie="vo+qk")).splitlines()[1].strip()
    assert first == "embed_dim=6, num_heads=2, dropout=0.0, batch_first=False, tie='vo+qk'"


# ---- the ways to be wrong


@pytest.mark.parametrize("tie", ["ov", "", None])
def test_unknown_ties_are_refused_with_the_list(tie: Any) -> None:
    said = f"TiedAttention does not support tie={tie!r}. Choose one of: vo, vo+qk_t, vo+qk."
    with pytest.raises(UsageError, match=re.escape(said)):
        TiedAttention(8, 2, tie=tie)


def test_heads_that_do_not_divide_are_refused() -> None:
    said = "TiedAttention cannot split embed_dim=8 into num_heads=3 equal heads."
    with pytest.raises(ShapeError, match=re.escape(said)):
        TiedAttention(8, 3)


def test_inputs_of_another_width_are_named() -> None:
    with pytest.raises(ShapeError, match=r"expects inputs of shape \(\.\.\., 8\), got"):
        TiedAttention(8, 2)(*[torch.zeros(3, 2, 7)] * 3)


def test_attentions_that_cannot_be_taken_over_are_refused() -> None:
    said = "TiedAttention does not support embed_dim=8, kdim=6, vdim=8. Use an attention in which the three are equal."
    with pytest.raises(ShapeError, match=re.escape(said)):
        TiedAttention.from_attention(nn.MultiheadAttention(8, 2, kdim=6))
    said = "TiedAttention does not support add_bias_kv=True: it adds no key and value."
    with pytest.raises(UsageError, match=re.escape(said)):
        TiedAttention.from_attention(nn.MultiheadAttention(8, 2, add_bias_kv=True))


def test_a_swapped_weight_is_noticed() -> None:
    """Meta-test: the oracle of one weight against the forward of another that has two rows swapped."""
    layer, x = make(16, 2, "vo", dtype=torch.float64), models.inputs(2, 3, 16, dtype=np.float64)
    y = expected(layer, x, x)
    weight = layer.get_parameter("v_proj.weight").data
    weight[[3, 4]] = weight[[4, 3]]
    tensor = torch.from_numpy(x)
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(tensor, tensor, tensor)[0], y, nmse=1e-22, what="swapped")
