"""TiedFFN in torch: against the formula, against the untied pair, gradients of both uses, and the ways to be wrong.

Its exported form is in test_bodies_tied_ffn.py.
"""

import copy
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from edgefc import TiedFFN
from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common.activations import ACTIVATIONS
from edgefc.testing import assert_close
from tests.support import layer_models as models

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([61, 97]))

FORMULAS = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "sin": np.sin,
}


def expected(layer: TiedFFN, x: NDArray[Any]) -> NDArray[np.float64]:
    """W^T f(W x + b1) + b2 for each row, in float64."""
    w = layer.weight.detach().double().numpy()
    hidden = x.astype(np.float64) @ w.T
    if layer.bias_in is not None:
        hidden = hidden + layer.bias_in.detach().double().numpy()
    y: NDArray[np.float64] = FORMULAS[layer.activation](hidden) @ w if hidden.size else np.zeros(x.shape)
    return y if layer.bias_out is None else y + layer.bias_out.detach().double().numpy()


@given(d=SIZES, h=SIZES, name=st.sampled_from(list(ACTIVATIONS)), bias=st.booleans(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_forward_is_the_formula_of_the_paper(d: int, h: int, name: str, bias: bool, data: st.DataObject) -> None:
    leading = data.draw(st.sampled_from([(4,), (), (2, 3)]))
    torch.manual_seed(0)
    layer = TiedFFN(d, h, name, bias, dtype=torch.float64)
    x = models.inputs(*leading, d, dtype=np.float64)
    y = expected(layer, x)
    assume(np.any(y))  # of a single unit, ReLU may leave nothing
    assert_close(layer(torch.from_numpy(x)), y, nmse=1e-24, what="forward")


@pytest.mark.parametrize(("d", "h"), [(384, 1536), (768, 3072), (768, 100)])
def test_sizes_of_transformers(d: int, h: int) -> None:
    layer, x = TiedFFN(d, h), models.inputs(5, d)
    assert_close(layer(torch.from_numpy(x)), expected(layer, x), nmse=1e-12, what="forward")


def test_by_hand() -> None:
    """W = [1 2], relu: x = (1, 1) gives 3 + b1 = 5, then 5 (1, 2) + b2."""
    layer = TiedFFN(2, 1, "relu")
    layer.load_state_dict({
        "weight": torch.tensor([[1.0, 2.0]]), "bias_in": torch.tensor([2.0]), "bias_out": torch.tensor([10.0, 20.0]),
    })  # fmt: skip
    assert layer(torch.ones(2)).tolist() == [15.0, 30.0]


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_untied_pair_with_the_transpose_as_second_matrix(bias: bool) -> None:
    layer = TiedFFN(12, 30, bias=bias, dtype=torch.float64)
    pair = layer.dense()
    first, second = pair[0], pair[-1]
    assert torch.equal(second.weight, first.weight.t())
    assert sum(p.numel() for p in pair.parameters()) == 2 * 12 * 30 + bias * (12 + 30)
    x = torch.randn(7, 12, dtype=torch.float64)
    assert_close(layer(x), pair(x), nmse=1e-26, what="untied")


@pytest.mark.parametrize("leading", [(0,), (2, 0), (0, 3)])
def test_empty_batches_give_empty_answers(leading: tuple[int, ...]) -> None:
    assert TiedFFN(12, 7)(torch.zeros(*leading, 12)).shape == (*leading, 12)


def test_weights_are_counted_and_stored_once() -> None:
    layer = TiedFFN(64, 256)
    assert sum(p.numel() for p in layer.parameters()) == 64 * 256 + 256 + 64
    assert {name: value.numel() for name, value in layer.state_dict().items()} == {
        "weight": 64 * 256, "bias_in": 256, "bias_out": 64,
    }  # fmt: skip
    with torch.device("meta"):
        large = TiedFFN(2048, 8192)
    assert sum(p.numel() for p in large.parameters()) == 16_787_456  # as its docstring says
    assert large.multiply_adds() == 2 * 2048 * 8192


def test_dropout_acts_on_the_hidden_numbers_in_training_only() -> None:
    torch.manual_seed(0)
    layer, x = TiedFFN(6, 5, "identity", False, dropout=1.0), torch.randn(3, 6)
    assert not layer(x).any()
    assert layer.eval()(x).all()
    assert isinstance(layer.dense()[2], nn.Dropout)


# ---- gradients


@pytest.mark.parametrize("name", ["gelu", "tanh"])
def test_gradients_by_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    layer = TiedFFN(4, 7, name, dtype=torch.float64)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def forward(x: Any, *weights: Any) -> Any:
        return torch.func.functional_call(layer, dict(zip(("weight", "bias_in", "bias_out"), weights, strict=True)), x)

    assert torch.autograd.gradcheck(forward, (x, *layer.parameters()))


def test_the_gradient_is_the_sum_of_both_uses() -> None:
    """dL/dW = dL/dW1 + (dL/dW2)^T, with the pair's own gradients."""
    torch.manual_seed(0)
    layer = TiedFFN(9, 14, dtype=torch.float64)
    pair = layer.dense()
    x = torch.randn(5, 9, dtype=torch.float64)
    for module in (layer, pair):
        module(x).square().sum().backward()
    assert layer.weight.grad is not None
    both: Any = pair[0].weight.grad + pair[-1].weight.grad.t()
    assert_close(layer.weight.grad, both, nmse=1e-26, what="dL/dW")


# ---- the nearest block


@pytest.mark.parametrize(("d", "h"), [(1, 1), (5, 3), (4, 9)])
def test_from_linears_is_the_least_squares_fit(d: int, h: int) -> None:
    """Against lstsq: W twice on the left, W1 and W2^T on the right."""
    torch.manual_seed(1)
    first, second = nn.Linear(d, h, dtype=torch.float64), nn.Linear(h, d, dtype=torch.float64)
    layer = TiedFFN.from_linears(first, second, "relu", dropout=0.25)
    target = np.concatenate([first.weight.detach().numpy().ravel(), second.weight.detach().numpy().T.ravel()])
    system = np.concatenate([np.eye(d * h)] * 2)
    assert_close(layer.weight.flatten(), np.linalg.lstsq(system, target, rcond=None)[0], nmse=1e-26, what="W")
    assert torch.equal(layer.bias_in, first.bias)
    assert torch.equal(layer.bias_out, second.bias)
    assert (layer.activation, layer.dropout) == ("relu", 0.25)


def test_from_linears_returns_a_tied_pair_as_it_was() -> None:
    layer = TiedFFN(6, 11)
    pair = layer.dense()
    again = TiedFFN.from_linears(pair[0], pair[-1])
    for name, value in layer.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_from_linears_keeps_dtype_and_takes_pairs_with_one_bias_or_none() -> None:
    def pair(one: bool, two: bool) -> tuple[nn.Linear, nn.Linear]:
        return nn.Linear(4, 6, one, dtype=torch.bfloat16), nn.Linear(6, 4, two, dtype=torch.bfloat16)

    assert TiedFFN.from_linears(*pair(False, False)).bias_in is None
    layer = TiedFFN.from_linears(*pair(False, True))
    assert layer.weight.dtype == torch.bfloat16
    assert layer.bias_in is not None
    assert not layer.bias_in.any()


# ---- in the place of others


@pytest.mark.parametrize("training", [True, False])
def test_in_a_transformer_encoder_layer(training: bool) -> None:
    """As its docstring tells; against torch's own layer that holds W and W^T in both linear layers."""
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(16, 2, 40, dropout=0.0, activation="gelu", batch_first=True)
    layer = nn.TransformerEncoderLayer(16, 2, 40, dropout=0.0, activation=nn.Identity(), batch_first=True)
    layer.load_state_dict(theirs.state_dict())
    tied = TiedFFN(16, 40)
    layer.linear1, layer.dropout, layer.linear2 = tied, nn.Identity(), nn.Identity()  # type: ignore[assignment]
    pair = tied.dense()
    theirs.linear1, theirs.linear2 = pair[0], pair[-1]  # type: ignore[assignment]
    x = torch.randn(3, 5, 16)
    layer.train(training), theirs.train(training)
    with torch.no_grad():
        assert_close(layer(x), theirs(x), nmse=1e-12, what="block")


# ---- what every layer keeps


@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 1e-6), (torch.bfloat16, 1e-4)])
def test_half_precision(dtype: torch.dtype, nmse: float) -> None:
    half = TiedFFN(61, 97).to(dtype)
    x = torch.from_numpy(models.inputs(9, 61)).to(dtype)
    y = half(x)
    assert y.dtype == dtype
    assert_close(y, copy.deepcopy(half).float()(x.float()), nmse=nmse, what=str(dtype))


def test_autocast() -> None:
    layer, x = TiedFFN(24, 50), torch.randn(9, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert_close(y, layer(x), nmse=1e-4, what="autocast")
    y.float().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())


def test_copies() -> None:
    """State dict, deep copy, pickle: the same answers from one copy of W."""
    layer, x = TiedFFN(64, 128), torch.randn(3, 64)
    fresh, pickled = TiedFFN(64, 128), pickle.dumps(layer)
    fresh.load_state_dict(layer.state_dict())
    whole = pickle.loads(pickled)
    assert len(pickled) < 4 * 64 * 128 + 4096
    for other in (fresh, whole, copy.deepcopy(layer)):
        assert torch.equal(other(x), layer(x))
        assert str(other) == str(layer)


def test_it_compiles_whole() -> None:
    layer, x = TiedFFN(8, 16), torch.randn(3, 8)
    assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x), nmse=1e-12, what="compiled")


def test_fresh_layers_are_as_the_linear_layers_are() -> None:
    """Same bounds: 1/sqrt(d) for W and b1, 1/sqrt(h) for b2; b2 reaches near its bound and never past it."""
    layer = TiedFFN(400, 100)
    for parameter, fan in ((layer.weight, 400), (layer.bias_in, 400), (layer.bias_out, 100)):
        assert parameter is not None
        assert 0.9 * fan**-0.5 < float(parameter.detach().abs().max()) <= fan**-0.5


def test_repr_says_how_to_make_it() -> None:
    layer = TiedFFN(6, 5, "relu", False, dropout=0.5)
    assert str(layer) == "TiedFFN(d_model=6, d_hidden=5, activation='relu', bias=False, dropout=0.5)"
    assert str(eval(str(layer))) == str(layer)


# ---- the ways to be wrong


@pytest.mark.parametrize(("d", "h"), [(0, 4), (4, 0), (-1, 4), (2.0, 4), (True, 4)])
def test_sizes_below_one_are_named(d: Any, h: Any) -> None:
    said = f"TiedFFN does not support d_model={d!r}, d_hidden={h!r}. Choose integers from 1 to 2**31 - 1."
    with pytest.raises(ShapeError, match=re.escape(said)):
        TiedFFN(d, h)


def test_unknown_activations_are_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match=re.escape("unknown activation 'swish'. Choose one of: identity, relu, gelu,")):
        TiedFFN(4, 4, "swish")


@pytest.mark.parametrize("dropout", [-0.1, 1.5, math.nan])
def test_dropouts_outside_0_to_1_are_refused(dropout: float) -> None:
    said = f"TiedFFN does not support dropout={dropout!r}. Choose a probability from 0 to 1."
    with pytest.raises(UsageError, match=re.escape(said)):
        TiedFFN(4, 4, dropout=dropout)


def test_inputs_of_another_width_are_named_with_both_sizes() -> None:
    said = "TiedFFN expects inputs of shape (..., 8), got (2, 7). Change the size of the last axis to 8."
    with pytest.raises(ShapeError, match=re.escape(said)):
        TiedFFN(8, 5)(torch.zeros(2, 7))


def test_pairs_that_do_not_lead_back_are_refused() -> None:
    said = (
        "TiedFFN cannot share one matrix between layers with 4 to 6 and 6 to 5 features. Use a second layer with 6 "
        "to 4 features."
    )
    with pytest.raises(ShapeError, match=re.escape(said)):
        TiedFFN.from_linears(nn.Linear(4, 6), nn.Linear(6, 5))


def test_a_swapped_weight_is_noticed() -> None:
    """Meta-test: the oracle of one weight against the forward of another that has two rows swapped."""
    layer, x = TiedFFN(16, 16, dtype=torch.float64), models.inputs(4, 16, dtype=np.float64)
    y = expected(layer, x)
    layer.weight.data[[3, 4]] = layer.weight.data[[4, 3]]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(torch.from_numpy(x)), y, nmse=1e-24, what="swapped")
