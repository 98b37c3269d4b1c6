"""BilinearLSTM in torch: against the formula in numpy, against torch.nn.LSTM, fits, and the ways to be wrong.

Its exported form is in test_bodies_bilinear_lstm.py.
"""

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgefc import BilinearLSTM
from edgefc.errors import ShapeError, UsageError
from edgefc.testing import assert_close
from tests.support import lstm_models as models

SIZES = st.one_of(st.integers(1, 20), st.sampled_from([31, 36, 49]))


def make(n: int, h: int, layers: int = 1, **options: Any) -> BilinearLSTM:
    return models.randomise(BilinearLSTM(n, h, layers, dtype=torch.float64, **options))


@given(n=SIZES, h=SIZES, layers=st.integers(1, 2), terms=st.integers(1, 3), bias=st.booleans(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_forward_is_the_formula(n: int, h: int, layers: int, terms: int, bias: bool, data: st.DataObject) -> None:
    """For every size, stack and kind of gates; dense() holds the matrices of the formula."""
    gates = data.draw(st.sampled_from(["torch", "keras"]))
    lstm = make(n, h, layers, bias=bias, terms=terms, gates=gates)
    x = models.inputs(data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3)), n)
    models.check_answers(lstm(torch.from_numpy(x)), models.expected(lstm, x), 1e-24, gates)
    dense = lstm.dense()
    for index in range(layers):
        for name, matrix in zip(("weight_ih", "weight_hh"), models.matrices(lstm, index), strict=True):
            assert_close(dense[f"{name}_l{index}"], matrix.reshape(4 * h, -1), nmse=1e-28, what=name)


def test_a_step_written_out() -> None:
    """n = h = 4, with matrices as the paper writes them: Z_g = L_g^T X R_g + U_g^T H V_g + B_g."""
    lstm = make(4, 4, gates="keras")
    layer = lstm.layers[0]
    left, right, up, across = (
        models.array(getattr(layer, name)[:, 0]) for name in ("left", "right", "left_recurrent", "right_recurrent")
    )
    x, h, c = (models.inputs(4, seed=s) for s in range(3))
    grid, state = x.reshape(2, 2), h.reshape(2, 2)
    z = [left[g].T @ grid @ right[g] + up[g].T @ state @ across[g] for g in range(4)]
    i, f, g, o = (z[k] + models.array(layer.bias)[k].reshape(2, 2) for k in range(4))
    hard = [np.clip(0.2 * value + 0.5, 0, 1) for value in (i, f, o)]
    cell = hard[1] * c.reshape(2, 2) + hard[0] * np.tanh(g)
    hidden = hard[2] * np.tanh(cell)
    actual = lstm(torch.from_numpy(x[None]), (torch.from_numpy(h[None]), torch.from_numpy(c[None])))
    models.check_answers(actual, (hidden.reshape(1, 4), hidden.reshape(1, 4), cell.reshape(1, 4)), 1e-28, "by hand")


@pytest.mark.parametrize(("n", "h"), [(1, 1), (384, 48), (7, 768), (61, 61)])
def test_sizes_at_the_edge(n: int, h: int) -> None:
    lstm, x = make(n, h), models.inputs(3, 2, n)
    models.check_answers(lstm(torch.from_numpy(x)), models.expected(lstm, x), 1e-24, "edge")


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_stands_in_for_torch_lstm(batch_first: bool, bias: bool) -> None:
    models.check_like_torch(make(6, 12, 2, batch_first=batch_first, bias=bias))


@pytest.mark.parametrize(("lengths", "ordered"), [([5, 3, 3, 1], True), ([2, 5, 1], False), ([4, 4], True)])
def test_packed_sequences(lengths: list[int], ordered: bool) -> None:
    models.check_packed(make(6, 7, 2), lengths, ordered=ordered)


def test_dropout_between_layers_in_training_only() -> None:
    lstm = BilinearLSTM(6, 8, 2, dropout=1.0, dtype=torch.float64)
    x = models.inputs(3, 2, 6)
    blind, (h, _) = lstm(torch.from_numpy(x))
    _, (other, _) = lstm(2 * torch.from_numpy(x))
    assert not torch.equal(h[0], other[0])
    assert torch.equal(h[1], other[1])  # which sees zeros
    assert torch.equal(blind[-1], h[1])
    models.check_answers(lstm.eval()(torch.from_numpy(x)), models.expected(lstm, x), 1e-24, "eval")


@pytest.mark.parametrize("batch_first", [False, True])
def test_an_empty_batch(batch_first: bool) -> None:
    lstm = BilinearLSTM(6, 8, 2, batch_first=batch_first)
    shape = (0, 3) if batch_first else (3, 0)
    y, (h, c) = lstm(torch.zeros(*shape, 6))
    assert (y.shape, h.shape, c.shape) == ((*shape, 8), (2, 0, 8), (2, 0, 8))


@pytest.mark.parametrize("options", [{"gates": "keras"}, {"terms": 2}], ids=str)
def test_gradients_by_finite_differences(options: dict[str, Any]) -> None:
    models.check_gradients(make(3, 2, **options))


# ---- the nearest bilinear LSTM


@pytest.mark.parametrize(("n", "h", "terms"), [(6, 8, 1), (9, 4, 2), (1, 1, 1)])
def test_from_lstm_returns_a_bilinear_lstm_as_it_was(n: int, h: int, terms: int) -> None:
    original = make(n, h, 2, terms=terms, batch_first=True)
    fitted = BilinearLSTM.from_lstm(models.torch_lstm(original), terms=terms)
    assert fitted.batch_first
    for name, tensor in original.dense().items():
        assert_close(fitted.dense()[name] + 1, tensor + 1, nmse=1e-20, what=name)  # second biases are zeros


def test_from_lstm_is_the_nearest_of_each_gate() -> None:
    """Van Loan's theorem: what is left over is what the singular values of the rearranged matrix leave."""
    torch.manual_seed(0)
    lstm = nn.LSTM(6, 8, dtype=torch.float64)
    fitted = BilinearLSTM.from_lstm(lstm, terms=2)
    gap = (fitted.dense()["weight_ih_l0"] - lstm.weight_ih_l0.detach()).reshape(4, 8, 6).square().sum((1, 2))
    for g, weight in enumerate(models.array(lstm.weight_ih_l0).reshape(4, 8, 6)):
        blocks = weight.T.reshape(2, 3, 2, 4).transpose(0, 2, 1, 3).reshape(4, 12)
        left_over = (np.linalg.svd(blocks, compute_uv=False)[2:] ** 2).sum()
        assert abs(float(gap[g]) - left_over) < 1e-12
    assert fitted.layers[0].bias is not None
    assert torch.equal(fitted.layers[0].bias.flatten(), lstm.bias_ih_l0 + lstm.bias_hh_l0)


# ---- numbers stored, numbers drawn, work


def test_numbers_stored_and_multiply_adds() -> None:
    """As the docstring says: 4 (d1 u1 + d2 u2 + u1^2 + u2^2) + 4 h, and the count of the products left first."""
    lstm = BilinearLSTM(256, 256)
    assert sum(p.numel() for p in lstm.parameters()) == 5120 == 4 * 4 * 256 + 4 * 256
    assert lstm.multiply_adds() == 65536
    assert BilinearLSTM(12, 4, 2, terms=3).multiply_adds() == 4 * 3 * (2 * (4 * (3 + 2) + 2 * 4) + 2 * 16)
    torch_lstm = nn.LSTM(256, 256)
    assert sum(p.numel() for p in torch_lstm.parameters()) == 526336
    assert 4 * 256 * 512 == 524288


def test_fresh_layers_are_drawn_as_by_the_authors() -> None:
    """The factors of the four gates are one matrix: glorot_uniform for the input, orthonormal rows for the state."""
    torch.manual_seed(0)
    layer = BilinearLSTM(256, 64).layers[0]
    bound = np.sqrt(6 / (16 + 4 * 8))
    assert 0.99 * bound < layer.left.abs().max() <= bound
    for factor in (layer.left_recurrent, layer.right_recurrent):
        whole = factor[:, 0].permute(1, 0, 2).reshape(8, 32)
        assert_close(whole @ whole.T, torch.eye(8), nmse=1e-10, what="orthogonal")
    assert layer.bias.tolist() == [[0.0] * 64, [1.0] * 64, [0.0] * 64, [0.0] * 64]


def test_copies_and_half_precision() -> None:
    models.check_kept(BilinearLSTM(6, 13, 2), BilinearLSTM(6, 13, 2))


@pytest.mark.slow
def test_compiles_whole() -> None:
    """Step by step, for the length at hand."""
    lstm, x = BilinearLSTM(6, 8, 2), torch.randn(3, 2, 6)
    assert_close(
        torch.compile(lstm, fullgraph=True, backend="aot_eager")(x)[0], lstm(x)[0], nmse=1e-12, what="compiled"
    )


def test_repr_says_how_to_make_it() -> None:
    said = (
        "input_size=6, hidden_size=8, num_layers=2, bias=False, batch_first=True, dropout=0.5, gates='keras', terms=3"
    )
    assert BilinearLSTM(6, 8, 2, False, True, 0.5, gates="keras", terms=3).extra_repr() == said


# ---- the ways to be wrong


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        ((0, 8), {}, ShapeError, "does not support input_size=0, hidden_size=8, num_layers=1. Choose integers"),
        ((6, 8, 0), {}, ShapeError, "does not support input_size=6, hidden_size=8, num_layers=0. Choose integers"),
        (
            (6, 8),
            {"terms": 0},
            ShapeError,
            "BilinearLSTM does not support terms=0. Choose an integer from 1 to 2**31 - 1.",
        ),
        (
            (6, 8),
            {"gates": "relu"},
            UsageError,
            "BilinearLSTM does not support gates='relu'. Choose 'torch' or 'keras'.",
        ),
        ((6, 8), {"dropout": 2}, UsageError, "does not support dropout=2. Choose a probability from 0 to 1."),
        (
            (6, 8),
            {"bidirectional": True},
            UsageError,
            "BilinearLSTM does not support bidirectional=True. Use two of them, one",
        ),
        ((6, 8), {"proj_size": 2}, UsageError, "does not support proj_size=2. Add a linear layer"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: Any, options: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        BilinearLSTM(*arguments, **options)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (
            (3, 2, 7),
            "BilinearLSTM expects inputs of shape (..., 6), got (3, 2, 7). Change the size of the last axis to 6.",
        ),
        (
            (6,),
            "BilinearLSTM expects an input of shape (steps, batch, features), or (steps, features) for one "
            "sequence, with at least one step, got (6,).",
        ),
        (
            (0, 2, 6),
            "BilinearLSTM expects an input of shape (steps, batch, features), or (steps, features) for one "
            "sequence, with at least one step, got (0, 2, 6).",
        ),
        ((1, 1, 2, 6), "got (1, 1, 2, 6)."),
    ],
)
def test_inputs_of_another_shape(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ShapeError, match=re.escape(said)):
        BilinearLSTM(6, 8)(torch.zeros(shape))


def test_first_states_of_another_shape() -> None:
    said = (
        "BilinearLSTM expects initial states of shape (1, 2, 8) for this input, got (2, 8). Pass (h_0, c_0) with "
        "one state for each layer."
    )
    with pytest.raises(ShapeError, match=re.escape(said)):
        BilinearLSTM(6, 8)(torch.zeros(3, 2, 6), (torch.zeros(2, 8), torch.zeros(2, 8)))


@pytest.mark.parametrize("options", [{"bidirectional": True}, {"proj_size": 2}])
def test_from_lstm_refuses_what_it_has_not(options: Any) -> None:
    with pytest.raises(UsageError, match="BilinearLSTM does not support"):
        BilinearLSTM.from_lstm(nn.LSTM(6, 8, **options))


# ---- the comparisons can fail


def test_swapped_gates_are_noticed() -> None:
    lstm, x = make(6, 8), models.inputs(4, 2, 6)
    wanted = models.expected(lstm, x)
    layer = lstm.layers[0]
    layer.left_recurrent.data = layer.left_recurrent.data[[0, 2, 1, 3]]
    with pytest.raises(AssertionError, match="nmse"):
        models.check_answers(lstm(torch.from_numpy(x)), wanted, 1e-12, "swapped")
