"""CirculantLSTM in torch: against the formula in numpy, against torch.nn.LSTM, fits, and the ways to be wrong.

What both LSTMs share has more tests in test_bilinear_lstm.py; the exported form is in test_bodies_circulant_lstm.py.
"""

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgefc import CirculantLSTM
from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common.checkpoint import holds_weights
from edgefc.testing import assert_close
from tests.support import lstm_models as models

SIZES = st.one_of(st.integers(1, 20), st.sampled_from([31, 36, 49]))


def make(n: int, h: int, layers: int = 1, **options: Any) -> CirculantLSTM:
    return models.randomise(CirculantLSTM(n, h, layers, dtype=torch.float64, **options))


@given(n=SIZES, h=SIZES, layers=st.integers(1, 2), seed=st.integers(0, 2**64 - 1), bias=st.booleans(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_forward_is_the_formula(n: int, h: int, layers: int, seed: int, bias: bool, data: st.DataObject) -> None:
    """For every size, block, seed and kind of gates; dense() holds the matrices of the formula."""
    block = data.draw(st.none() | st.integers(1, h))
    gates = data.draw(st.sampled_from(["torch", "keras"]))
    lstm = make(n, h, layers, bias=bias, block=block, seed=seed, gates=gates)
    x = models.inputs(data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3)), n)
    models.check_answers(lstm(torch.from_numpy(x)), models.expected(lstm, x), 1e-24, gates)
    dense = lstm.dense()
    for index in range(layers):
        for name, matrix in zip(("weight_ih", "weight_hh"), models.matrices(lstm, index), strict=True):
            np.testing.assert_array_equal(dense[f"{name}_l{index}"].numpy(), matrix.reshape(4 * h, -1))


@pytest.mark.parametrize(("n", "h", "block"), [(1, 1, None), (384, 48, 16), (7, 768, None), (61, 61, None)])
def test_sizes_at_the_edge(n: int, h: int, block: int | None) -> None:
    lstm, x = make(n, h, block=block), models.inputs(3, 2, n)
    models.check_answers(lstm(torch.from_numpy(x)), models.expected(lstm, x), 1e-24, "edge")


@pytest.mark.parametrize("batch_first", [False, True])
def test_stands_in_for_torch_lstm(batch_first: bool) -> None:
    models.check_like_torch(make(6, 12, 2, batch_first=batch_first, block=5))


@pytest.mark.parametrize(("lengths", "ordered"), [([5, 3, 3, 1], True), ([2, 5, 1], False)])
def test_packed_sequences(lengths: list[int], ordered: bool) -> None:
    models.check_packed(make(6, 7, 2), lengths, ordered=ordered)


def test_an_empty_batch() -> None:
    y, (h, c) = CirculantLSTM(6, 8, 2)(torch.zeros(3, 0, 6))
    assert (y.shape, h.shape, c.shape) == ((3, 0, 8), (2, 0, 8), (2, 0, 8))


@pytest.mark.parametrize("options", [{"gates": "keras"}, {"block": 2}], ids=str)
def test_gradients_by_finite_differences(options: dict[str, Any]) -> None:
    models.check_gradients(make(3, 2, **options))


# ---- the nearest circulant LSTM


@pytest.mark.parametrize(("n", "h", "block"), [(6, 8, None), (9, 4, 3), (1, 1, None)])
def test_from_lstm_returns_a_circulant_lstm_as_it_was(n: int, h: int, block: int | None) -> None:
    original = make(n, h, 2, block=block, seed=5)
    fitted = CirculantLSTM.from_lstm(models.torch_lstm(original), block=block, seed=5)
    for name, tensor in original.dense().items():
        assert_close(fitted.dense()[name] + 1, tensor + 1, nmse=1e-26, what=name)  # second biases are zeros


def test_from_lstm_cannot_be_improved_by_a_nudge() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(7, 6, dtype=torch.float64)
    layer = CirculantLSTM.from_lstm(lstm, block=4, seed=0)
    weights = ("weight_ih_l0", "weight_hh_l0")
    best = [(layer.dense()[name] - getattr(lstm, name)).norm() for name in weights]
    for _ in range(20):
        nudged = CirculantLSTM.from_lstm(lstm, block=4, seed=0)
        for parameter in nudged.parameters():
            parameter.data += 1e-3 * torch.randn_like(parameter)
        worse = [(nudged.dense()[name] - getattr(lstm, name)).norm() for name in weights]
        assert all(a > b for a, b in zip(worse, best, strict=True))


# ---- numbers stored, numbers drawn, work


@pytest.mark.parametrize(("block", "numbers"), [(None, 3072), (16, 33792)])
def test_numbers_stored(block: int | None, numbers: int) -> None:
    """As its docstring says: 4 p (q + p) b, and 4 h for the biases; no signs."""
    lstm = CirculantLSTM(256, 256, block=block)
    assert sum(p.numel() for p in lstm.parameters()) == numbers
    assert not [name for name, _ in lstm.named_buffers() if holds_weights(name)]


def test_multiply_adds() -> None:
    """n = 12, h = 8, b = 4: q = 3, p = 2; a transform is 1.25 b log2(b) = 10, a product of spectra 2 b - 2 = 6."""
    assert CirculantLSTM(12, 8, block=4).multiply_adds() == (3 + 9 * 2) * 10 + 4 * 2 * (3 + 2) * 6
    assert CirculantLSTM(12, 8, 2, block=4).multiply_adds() == 450 + (2 + 9 * 2) * 10 + 4 * 2 * (2 + 2) * 6


def test_layers_of_a_stack_have_signs_of_their_own() -> None:
    lstm = CirculantLSTM(8, 8, 3, seed=2**64 - 2)
    assert [layer.seed for layer in lstm.layers] == [2**64 - 2, 2**64 - 1, 0]


def test_fresh_layers_keep_the_variance() -> None:
    """|row|^2 sums n squares of N(0, 1/n): over 200 layers within 4 of its standard deviations of 1, or 1/h for R."""
    torch.manual_seed(0)
    rows = torch.cat([CirculantLSTM(16, 16).dense()["weight_ih_l0"].square().sum(1)[::16] for _ in range(200)])
    assert abs(float(rows.mean()) - 1) < 4 * np.sqrt(2 / (16 * len(rows)))


def test_copies_and_half_precision() -> None:
    models.check_kept(CirculantLSTM(6, 13, 2, seed=9), CirculantLSTM(6, 13, 2, seed=9))


@pytest.mark.slow
def test_compiles_whole() -> None:
    """Step by step, for the length at hand."""
    lstm, x = CirculantLSTM(6, 8, 2), torch.randn(3, 2, 6)
    assert_close(
        torch.compile(lstm, fullgraph=True, backend="aot_eager")(x)[0], lstm(x)[0], nmse=1e-12, what="compiled"
    )


def test_repr_says_how_to_make_it() -> None:
    said = (
        "input_size=6, hidden_size=8, num_layers=1, bias=True, batch_first=False, dropout=0.0, gates='torch', "
        "block=8, seed=3"
    )
    assert CirculantLSTM(6, 8, seed=3).extra_repr() == said


# ---- the ways to be wrong


@pytest.mark.parametrize("block", [0, 9, 2.0, True])
def test_a_block_that_does_not_fit_is_named_with_the_range(block: Any) -> None:
    said = (
        f"CirculantLSTM does not support block={block!r} for hidden_size=8. Choose a block from 1 to 8, or None for "
        f"the largest."
    )
    with pytest.raises(ShapeError, match=re.escape(said)):
        CirculantLSTM(16, 8, block=block)


@pytest.mark.parametrize("seed", [-1, 2**64, "0"])
def test_seeds_that_are_not_of_64_bits_are_refused(seed: Any) -> None:
    with pytest.raises(UsageError, match=re.escape(f"seed must be an integer from 0 to 2**64 - 1, got {seed!r}")):
        CirculantLSTM(4, 4, seed=seed)


@pytest.mark.parametrize("options", [{"bidirectional": True}, {"proj_size": 2}])
def test_from_lstm_refuses_what_it_has_not(options: Any) -> None:
    with pytest.raises(UsageError, match="CirculantLSTM does not support"):
        CirculantLSTM.from_lstm(nn.LSTM(6, 8, **options))


# ---- the comparisons can fail


def test_one_flipped_sign_of_the_state_is_noticed() -> None:
    lstm, x = make(6, 8), models.inputs(4, 2, 6)
    wanted = models.expected(lstm, x)
    lstm.layers[0].recurrent_kernel.data[0, 0, 0, 3] *= -1
    with pytest.raises(AssertionError, match="nmse"):
        models.check_answers(lstm(torch.from_numpy(x)), wanted, 1e-12, "flipped")
