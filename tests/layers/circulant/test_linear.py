"""CirculantLinear in torch: against its matrix, its gradients, the nearest circulant, and the ways to be wrong.

Its exported forms are in test_bodies_circulant.py.
"""

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgefc import CirculantLinear
from edgefc.errors import ShapeError, UsageError
from edgefc.testing import assert_close
from tests.support import layer_models as models

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([61, 64, 97]))
GRADIENT_SIZES = [  # inputs, outputs, block
    pytest.param(1, 1, None, id="one-number"),
    pytest.param(7, 7, None, id="prime"),
    pytest.param(8, 8, None, id="power-of-two"),
    pytest.param(7, 3, None, id="fewer-outputs"),
    pytest.param(3, 7, None, id="more-outputs"),
    pytest.param(5, 7, 3, id="blocks-3-by-2-cut"),
    pytest.param(5, 4, 1, id="blocks-of-one"),
]


@given(n=SIZES, m=SIZES, seed=st.integers(0, 2**64 - 1), bias=st.booleans(), data=st.data())
@settings(max_examples=80, deadline=None)
def test_forward_is_the_matrix_of_the_paper(n: int, m: int, seed: int, bias: bool, data: st.DataObject) -> None:
    """For every size, block and seed: forward(x) = x R^T + bias with R by the formula; dense() is R to the bit."""
    block = data.draw(st.none() | st.integers(1, max(n, m)))
    leading = data.draw(st.sampled_from([(4,), (), (2, 3)]))
    layer = CirculantLinear(n, m, bias, block=block, seed=seed, dtype=torch.float64)
    models.randomise(layer)
    x = models.inputs(*leading, n, dtype=np.float64)
    np.testing.assert_array_equal(layer.dense().numpy(), models.circulant_matrix(layer))
    assert_close(layer(torch.from_numpy(x)), models.expected(layer, x), nmse=1e-26, what="forward")


def test_the_matrix_written_out() -> None:
    """n = m = 3, by hand: the first column is r, and column j has the sign of input j."""
    layer = CirculantLinear(3, 3, seed=5)
    layer.kernel.data = torch.tensor([[[1.0, 2.0, 3.0]]])
    signs = models.generator.matrix(5, 1, 3, "rademacher")[0]
    by_hand = np.array([[1, 3, 2], [2, 1, 3], [3, 2, 1]]) * signs
    np.testing.assert_array_equal(layer.dense().numpy(), by_hand)
    assert set(signs) == {-1.0, 1.0}


def test_a_block_is_as_good_as_the_layer_it_is_cut_from() -> None:
    """block=max(n, m) is block=None."""
    torch.manual_seed(0)
    whole = CirculantLinear(12, 7)
    torch.manual_seed(0)
    same = CirculantLinear(12, 7, block=12)
    assert torch.equal(whole.dense(), same.dense())


@pytest.mark.parametrize("leading", [(0,), (2, 0), (0, 3)])
def test_empty_batches_give_empty_answers(leading: tuple[int, ...]) -> None:
    assert CirculantLinear(12, 7, block=4)(torch.zeros(*leading, 12)).shape == (*leading, 7)


# ---- gradients


@pytest.mark.parametrize(("n", "m", "block"), GRADIENT_SIZES)
def test_gradients_by_finite_differences(n: int, m: int, block: int | None) -> None:
    layer = CirculantLinear(n, m, block=block, seed=3, dtype=torch.float64)
    x = torch.from_numpy(models.inputs(2, n, dtype=np.float64)).requires_grad_()

    def forward(x: Any, kernel: Any, bias: Any) -> Any:
        return torch.func.functional_call(layer, {"kernel": kernel, "bias": bias}, x)

    assert torch.autograd.gradcheck(forward, (x, layer.kernel, layer.bias))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (8, 8), (61, 61), (20, 7), (7, 20)])
def test_gradients_are_the_closed_form(n: int, m: int) -> None:
    """dL/dr = sum IFFT(FFT(g) conj(FFT(D x))), dL/dx = D IFFT(FFT(g) conj(FFT(r))): both of length max(n, m)."""
    layer = CirculantLinear(n, m, seed=9, dtype=torch.float64)
    x, g = (models.inputs(5, size, seed=size, dtype=np.float64) for size in (n, m))
    tensor = torch.from_numpy(x).requires_grad_()
    layer(tensor).backward(torch.from_numpy(g))
    d = max(n, m)
    signs = models.generator.matrix(9, 1, n, "rademacher")[0].astype(np.float64)
    u_hat, g_hat = np.fft.fft(x * signs, d), np.fft.fft(g, d)  # zeros behind, up to d
    r_hat = np.fft.fft(layer.kernel.detach().numpy()[0, 0])
    by_kernel = np.fft.ifft(g_hat * u_hat.conj()).real.sum(0)
    by_x = signs * np.fft.ifft(g_hat * r_hat.conj()).real[:, :n]
    assert layer.kernel.grad is not None
    assert layer.bias is not None
    assert_close(layer.kernel.grad[0, 0], by_kernel, nmse=1e-26, what="dL/dr")
    assert_close(tensor.grad, by_x, nmse=1e-26, what="dL/dx")
    assert_close(layer.bias.grad, g.sum(0), nmse=1e-26, what="dL/db")


# ---- the nearest circulant


@pytest.mark.parametrize(("n", "m", "block"), [(1, 1, None), (6, 6, None), (7, 4, None), (4, 7, None), (9, 10, 4)])
def test_from_linear_is_the_least_squares_fit(n: int, m: int, block: int | None) -> None:
    """Against lstsq over one matrix per number of the kernel."""
    torch.manual_seed(1)
    linear = nn.Linear(n, m, dtype=torch.float64)
    layer = CirculantLinear.from_linear(linear, block=block, seed=2)
    basis = []
    for index in range(layer.kernel.numel()):
        single = CirculantLinear(n, m, block=block, seed=2, dtype=torch.float64)
        nn.init.zeros_(single.kernel)
        single.kernel.data.view(-1)[index] = 1.0
        basis.append(models.circulant_matrix(single).ravel())
    weight = linear.weight.detach().numpy()
    kernel = np.linalg.lstsq(np.stack(basis, 1), weight.ravel(), rcond=None)[0]
    assert_close(layer.kernel.flatten(), kernel, nmse=1e-26, what="kernel")


@given(n=st.integers(1, 12), m=st.integers(1, 12), data=st.data())
@settings(max_examples=30, deadline=None)
def test_from_linear_returns_a_circulant_as_it_was(n: int, m: int, data: st.DataObject) -> None:
    """Exact where the weight is already of that form, with the bias and the dtype kept."""
    block = data.draw(st.none() | st.integers(1, max(n, m)))
    original = models.randomise(CirculantLinear(n, m, block=block, seed=4))
    linear = nn.Linear(n, m)
    assert original.bias is not None
    linear.load_state_dict({"weight": original.dense(), "bias": original.bias.detach()})
    fitted = CirculantLinear.from_linear(linear, block=block, seed=4)
    assert fitted.kernel.dtype == torch.float32
    assert_close(fitted.dense(), original.dense(), nmse=1e-14, what="weight")
    assert fitted.bias is not None
    assert torch.equal(fitted.bias, original.bias)


def test_from_linear_cannot_be_improved_by_a_nudge() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(10, 8, dtype=torch.float64)
    layer = CirculantLinear.from_linear(linear, block=5)
    best = (layer.dense() - linear.weight).norm()
    for _ in range(50):
        nudged = copy.deepcopy(layer)
        nudged.kernel.data += 1e-3 * torch.randn_like(nudged.kernel)
        assert (nudged.dense() - linear.weight).norm() > best


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_from_linear_keeps_dtype_and_the_lack_of_a_bias(dtype: torch.dtype) -> None:
    layer = CirculantLinear.from_linear(nn.Linear(6, 5, bias=False, dtype=dtype))
    assert layer.kernel.dtype == dtype
    assert layer.bias is None


# ---- numbers stored, numbers drawn


@pytest.mark.parametrize(("n", "m"), [(1, 1), (64, 64), (64, 10), (10, 64)])
def test_it_stores_max_n_m_and_m_numbers(n: int, m: int) -> None:
    """The paper's count: d for the circulant (the longer side where it is not square), m for the bias; no signs."""
    assert sum(p.numel() for p in CirculantLinear(n, m).parameters()) == max(n, m) + m
    assert sorted(models.weights(CirculantLinear(n, m))) == ["bias", "kernel"]


def test_blocks_store_one_number_for_each_b_weights() -> None:
    sizes = {block: CirculantLinear(4096, 4096, False, block=block).kernel.numel() for block in (None, 256)}
    assert sizes == {None: 4096, 256: 65536}  # as its docstring says


@pytest.mark.parametrize(("n", "m", "block"), [(96, 96, None), (96, 40, None), (40, 96, None), (96, 96, 16)])
def test_fresh_layers_keep_the_variance(n: int, m: int, block: int | None) -> None:
    """|row|^2 sums n squares of N(0, 1/n); over 60 layers its mean is within 4 of its standard deviations of 1."""
    torch.manual_seed(0)
    layers = [CirculantLinear(n, m, block=block) for _ in range(60)]
    standard_deviation = np.sqrt(2 / (60 * n))  # rows of one layer share their numbers, so its rows count once
    assert abs(models.mean_row_power(layers) - 1) < 4 * standard_deviation


# ---- what every layer keeps


@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 1e-6), (torch.bfloat16, 1e-4)])
@pytest.mark.parametrize("block", [None, 16])
def test_half_precision_rounds_the_answer_only(dtype: torch.dtype, nmse: float, block: int | None) -> None:
    models.check_half_precision(CirculantLinear(61, 97, block=block), dtype, nmse)


def test_autocast() -> None:
    models.check_autocast(CirculantLinear(48, 33))


def test_conversions() -> None:
    models.check_conversions(CirculantLinear(48, 33, block=12))


def test_copies_hold_the_kernel_and_no_signs() -> None:
    models.check_copies(CirculantLinear(4096, 4096, seed=2**64 - 1), most_bytes=4 * 8192 + 4096)


@pytest.mark.slow
def test_another_process_has_the_same_signs() -> None:
    models.check_another_process("CirculantLinear(70, 50, seed=2**63 + 5)")


def test_repr_says_how_to_make_it() -> None:
    layer = CirculantLinear(6, 5, False, block=3, seed=7)
    assert str(layer) == "CirculantLinear(in_features=6, out_features=5, bias=False, block=3, seed=7)"
    assert str(eval(str(layer))) == str(layer)


# ---- the ways to be wrong


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 0), (-1, 4), (4, -7)])
def test_sizes_below_one_are_named(n: int, m: int) -> None:
    said = f"CirculantLinear does not support in_features={n}, out_features={m}. Choose integers from 1 to 2**31 - 1."
    with pytest.raises(ShapeError, match=re.escape(said)):
        CirculantLinear(n, m)


@pytest.mark.parametrize("block", [0, -1, 9])
def test_a_block_that_does_not_fit_is_named_with_the_range(block: int) -> None:
    said = (
        f"CirculantLinear does not support block={block} for in_features=8, out_features=5. Choose a block from 1 "
        f"to 8, or None for a single circulant."
    )
    with pytest.raises(ShapeError, match=re.escape(said)):
        CirculantLinear(8, 5, block=block)


@pytest.mark.parametrize("shape", [(2, 7), (8, 2), (0, 7), ()])
def test_inputs_of_another_width_are_named_with_both_sizes(shape: tuple[int, ...]) -> None:
    said = f"CirculantLinear expects inputs of shape (..., 8), got {shape}. Change the size of the last axis to 8."
    with pytest.raises(ShapeError, match=re.escape(said)):
        CirculantLinear(8, 5)(torch.zeros(shape))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "0", True])
def test_seeds_that_are_not_of_64_bits_are_refused(seed: Any) -> None:
    with pytest.raises(UsageError, match=re.escape(f"seed must be an integer from 0 to 2**64 - 1, got {seed!r}")):
        CirculantLinear(4, 4, seed=seed)


# ---- the comparisons can fail


def test_a_swapped_kernel_entry_is_noticed() -> None:
    """Meta-test: the oracle of one kernel against the forward of another that has two neighbours swapped."""
    layer = CirculantLinear(64, 64, dtype=torch.float64)
    x = models.inputs(4, 64, dtype=np.float64)
    y = models.expected(layer, x)
    layer.kernel.data[0, 0, [3, 4]] = layer.kernel.data[0, 0, [4, 3]]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(torch.from_numpy(x)), y, nmse=1e-26, what="swapped")


def test_one_flipped_sign_is_noticed() -> None:
    layer = CirculantLinear(64, 64, dtype=torch.float64)
    x = models.inputs(4, 64, dtype=np.float64)
    flipped = x.copy()
    flipped[:, 17] *= -1
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(torch.from_numpy(flipped)), models.expected(layer, x), nmse=1e-26, what="flipped")
