"""BilinearLinear in torch: against the authors' formula, its gradients, the nearest fit, and the ways to be wrong.

Its exported form is in test_bodies_bilinear.py; the rule for factors is tested here.
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

from edgefc import BilinearLinear
from edgefc.errors import ShapeError
from edgefc.fitting import free_entries
from edgefc.layers.bilinear.factors import LONGEST, factors
from edgefc.testing import assert_close
from tests.support import bilinear_models as bilinear
from tests.support import layer_models as models

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([61, 64, 97, 384, 768]))


def make(*args: Any, **options: Any) -> Any:
    return models.randomise(BilinearLinear(*args, **options))  # type: ignore[type-var]


@given(n=SIZES, m=SIZES, terms=st.integers(1, 4), bias=st.booleans(), data=st.data())
@settings(max_examples=50, deadline=None)
def test_forward_is_the_formula(n: int, m: int, terms: int, bias: bool, data: st.DataObject) -> None:
    """For every size and number of terms: the double sum, and its matrix entry by entry."""
    leading = data.draw(st.sampled_from([(4,), (), (2, 3)]))
    layer = make(n, m, bias, terms=terms, dtype=torch.float64)
    x = models.inputs(*leading, n, dtype=np.float64)
    assert_close(layer(torch.from_numpy(x)), bilinear.expected(layer, x), nmse=1e-26, what="forward")
    assert_close(layer.dense(), bilinear.kronecker(layer, n, m).T, nmse=1e-28, what="dense")


@given(data=st.data(), terms=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_any_factors(data: st.DataObject, terms: int) -> None:
    """Both orders of the products, tall and wide factors, padding and cutting."""
    d, u = (data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9))) for _ in range(2))
    n, m = data.draw(st.integers(1, d[0] * d[1])), data.draw(st.integers(1, u[0] * u[1]))
    layer = make(n, m, terms=terms, in_factors=d, out_factors=u, dtype=torch.float64)
    x = models.inputs(3, n, dtype=np.float64)
    assert_close(layer(torch.from_numpy(x)), bilinear.expected(layer, x), nmse=1e-26, what="forward")
    assert_close(layer.dense(), bilinear.kronecker(layer, n, m).T, nmse=1e-28, what="dense")


def test_the_matrix_written_out() -> None:
    """4 = 2 x 2 to 2 = 1 x 2 by hand: y[l] = sum_ij L[i] X[i, j] R[j, l]."""
    layer = BilinearLinear(4, 2, False)
    layer.left.data = torch.tensor([[[2.0], [3.0]]])
    layer.right.data = torch.tensor([[[1.0, 10.0], [100.0, 1000.0]]])
    by_hand = [[2.0, 200.0, 3.0, 300.0], [20.0, 2000.0, 30.0, 3000.0]]
    np.testing.assert_array_equal(layer.dense().numpy(), by_hand)
    np.testing.assert_array_equal(layer(torch.eye(4)).detach().numpy(), np.transpose(by_hand))


@pytest.mark.parametrize("leading", [(0,), (2, 0), (0, 3)])
@pytest.mark.parametrize(("n", "m"), [(12, 7), (7, 12)])
def test_empty_batches_give_empty_answers(leading: tuple[int, ...], n: int, m: int) -> None:
    assert BilinearLinear(n, m, terms=2)(torch.zeros(*leading, n)).shape == (*leading, m)


# ---- factors


@pytest.mark.parametrize(
    ("size", "split"),
    [(64, (8, 8)), (784, (28, 28)), (1000, (25, 40)), (1024, (32, 32)), (3072, (48, 64)), (4096, (64, 64)),
     (9216, (96, 96)), (27, (3, 9)), (10, (2, 5))],
)  # fmt: skip
def test_factors_are_the_authors_where_the_size_has_good_ones(size: int, split: tuple[int, int]) -> None:
    assert factors(size) == split


@pytest.mark.parametrize(("size", "split"), [(1, (1, 1)), (5, (2, 3)), (7, (2, 4)), (97, (7, 14)), (1009, (23, 44))])
def test_sizes_without_good_factors_are_padded(size: int, split: tuple[int, int]) -> None:
    assert factors(size) == split


@given(size=st.integers(1, 10**6))
@settings(max_examples=100, deadline=None)
def test_factors_are_the_first_good_ones(size: int) -> None:
    """Of the least padded size, the largest d1, within the ratio; from 100 on less than 4 % padding."""
    d1, d2 = factors(size)
    assert size <= d1 * d2
    assert d1 <= d2 <= LONGEST * d1
    assert d1 == max(d for d in range(1, math.isqrt(d1 * d2) + 1) if d1 * d2 % d == 0)
    for smaller in range(size, d1 * d2):
        best = max(d for d in range(1, math.isqrt(smaller) + 1) if smaller % d == 0)
        assert smaller // best > LONGEST * best
    assert d1 * d2 < size * (1.04 if size >= 100 else 1.21)


def test_the_authors_network_has_as_many_numbers_as_theirs() -> None:
    """Dense part of BiSVGG at scale 1, 2048 to 1024: 32 x 32 + 64 x 32 + 1024."""
    assert sum(p.numel() for p in BilinearLinear(2048, 1024).parameters()) == 32 * 32 + 64 * 32 + 1024


# ---- gradients


@pytest.mark.parametrize(("n", "m", "terms"), [(1, 1, 1), (4, 4, 1), (7, 3, 2), (3, 7, 2), (6, 12, 3)])
def test_gradients_by_finite_differences(n: int, m: int, terms: int) -> None:
    layer = BilinearLinear(n, m, terms=terms, dtype=torch.float64)
    x = torch.from_numpy(models.inputs(2, n, dtype=np.float64)).requires_grad_()

    def forward(x: Any, left: Any, right: Any, bias: Any) -> Any:
        return torch.func.functional_call(layer, {"left": left, "right": right, "bias": bias}, x)

    assert torch.autograd.gradcheck(forward, (x, layer.left, layer.right, layer.bias))


# ---- the nearest sum of Kronecker products


@pytest.mark.parametrize(("n", "m"), [(1, 1), (12, 12), (24, 6), (6, 24)])
@pytest.mark.parametrize("terms", [1, 2, 4])
def test_from_linear_is_the_truncated_svd(n: int, m: int, terms: int) -> None:
    """Without padding the distance is what numpy's singular values of the rearranged weight leave."""
    torch.manual_seed(1)
    linear = nn.Linear(n, m, dtype=torch.float64)
    layer = BilinearLinear.from_linear(linear, terms=terms)
    weight = bilinear.numbers(linear.weight)
    (d1, d2), (u1, u2) = layer.in_factors, layer.out_factors
    blocks = np.array([[weight.T[i * d2 + j, k * u2 + q] for j in range(d2) for q in range(u2)]
                       for i in range(d1) for k in range(u1)])  # fmt: skip
    left_over = math.sqrt(np.square(np.linalg.svd(blocks)[1][terms:]).sum())
    distance = np.linalg.norm(bilinear.kronecker(layer, n, m).T - weight)
    assert distance == pytest.approx(left_over, abs=1e-7 * np.linalg.norm(weight))


@pytest.mark.parametrize("terms", bilinear.TERMS)
@pytest.mark.parametrize(("n", "m"), [(24, 24), (13, 29), (40, 61)])
def test_from_linear_finds_what_a_layer_was_made_of(n: int, m: int, terms: int) -> None:
    """A weight of that form comes back, with the bias and the dtype kept; free entries are found again."""
    original = make(n, m, terms=terms)
    linear = nn.Linear(n, m)
    linear.load_state_dict({"weight": original.dense(), "bias": original.bias.detach()})
    fitted = BilinearLinear.from_linear(linear, terms=terms)
    assert fitted.left.dtype == torch.float32
    assert fitted.bias is not None
    assert torch.equal(fitted.bias, original.bias)
    exact = n == m  # nothing padded
    assert_close(fitted.dense(), original.dense(), nmse=1e-12 if exact else 1e-4, what="weight")


@pytest.mark.parametrize(("n", "m"), [(13, 29), (61, 40), (7, 7)])
def test_sweeps_over_free_entries_come_nearer_than_zeros_there(n: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(n, m, dtype=torch.float64)
    swept = (BilinearLinear.from_linear(linear, terms=2).dense() - linear.weight).norm()
    monkeypatch.setattr(free_entries, "_SWEEPS", 0)
    zeros = (BilinearLinear.from_linear(linear, terms=2).dense() - linear.weight).norm()
    assert swept < zeros * (1 - 1e-4)


def test_from_linear_of_zeros_is_zero_and_can_be_trained() -> None:
    linear = nn.Linear(6, 6)
    nn.init.zeros_(linear.weight)
    layer = BilinearLinear.from_linear(linear)
    assert not layer.dense().any()
    layer(torch.ones(1, 6)).sum().backward()
    assert layer.left.grad is not None
    assert layer.left.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_from_linear_keeps_dtype_and_the_lack_of_a_bias(dtype: torch.dtype) -> None:
    layer = BilinearLinear.from_linear(nn.Linear(6, 5, bias=False, dtype=dtype), in_factors=(6, 1))
    assert (layer.left.dtype, layer.right.dtype, layer.bias) == (dtype, dtype, None)
    assert layer.in_factors == (6, 1)


# ---- numbers stored, numbers drawn, products counted


def test_it_stores_what_its_docstring_says() -> None:
    """The paper's O(2 D) for D = s^2."""
    layer = BilinearLinear(4096, 4096, False)
    assert sum(p.numel() for p in layer.parameters()) == 8192
    assert layer.multiply_adds() == 524_288


@pytest.mark.parametrize(("d", "u"), [((4, 6), (2, 5)), ((2, 5), (4, 6)), ((3, 3), (3, 3))])
def test_multiply_adds_are_the_cheaper_order(d: tuple[int, int], u: tuple[int, int]) -> None:
    """Counted from the shapes of the two products, for each of 3 terms."""
    layer = BilinearLinear(d[0] * d[1], u[0] * u[1], terms=3, in_factors=d, out_factors=u)
    left_first = u[0] * d[0] * d[1] + u[0] * d[1] * u[1]
    right_first = d[0] * d[1] * u[1] + u[0] * d[0] * u[1]
    assert layer.multiply_adds() == 3 * min(left_first, right_first)


@pytest.mark.parametrize("terms", [1, 4])
def test_fresh_layers_keep_the_variance(terms: int) -> None:
    """E|row|^2 = n / n for square factors; rows share their numbers, so the bound is the spread over 60 layers."""
    torch.manual_seed(0)
    powers = [models.mean_row_power([BilinearLinear(256, 256, terms=terms)]) for _ in range(60)]
    assert abs(np.mean(powers) - 1) < 4 * np.std(powers) / math.sqrt(60)
    assert np.std(powers) < 0.2


# ---- what every layer keeps


@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 2e-6), (torch.bfloat16, 1e-4)])
def test_half_precision_stays_near(dtype: torch.dtype, nmse: float) -> None:
    layer: Any = BilinearLinear(61, 97, terms=2)
    models.check_half_precision(layer, dtype, nmse)


def test_autocast() -> None:
    layer: Any = BilinearLinear(48, 33)
    models.check_autocast(layer)


def test_copies_hold_the_factors() -> None:
    layer: Any = BilinearLinear(4096, 4096)
    models.check_copies(layer, most_bytes=4 * (8192 + 4096) + 4096)


def test_conversions() -> None:
    layer, x = make(48, 33), models.inputs(3, 48)
    layer.to(torch.float64)
    assert_close(layer(torch.from_numpy(x).double()), bilinear.expected(layer, x), nmse=1e-26, what="to float64")


@pytest.mark.slow
def test_compiles_without_breaks() -> None:
    layer, x = make(7, 12, terms=2), torch.from_numpy(models.inputs(3, 7))
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), layer(x))


def test_repr_says_how_to_make_it() -> None:
    layer = BilinearLinear(7, 10, False, terms=2)
    said = "in_features=7, out_features=10, bias=False, terms=2, in_factors=(2, 4), out_factors=(2, 5)"
    assert str(layer) == f"BilinearLinear({said})"
    assert str(eval(str(layer))) == str(layer)


# ---- the ways to be wrong


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, -7)])
def test_sizes_below_one_are_named(n: int, m: int) -> None:
    said = f"BilinearLinear does not support in_features={n}, out_features={m}. Choose integers from 1 to 2**31 - 1."
    with pytest.raises(ShapeError, match=re.escape(said)):
        BilinearLinear(n, m)


@pytest.mark.parametrize("terms", [0, -1, 1.5, True, None])
def test_terms_that_are_no_number_are_named(terms: Any) -> None:
    said = f"BilinearLinear does not support terms={terms!r}. Choose an integer from 1 to 2**31 - 1."
    with pytest.raises(ShapeError, match=re.escape(said)):
        BilinearLinear(4, 4, terms=terms)


@pytest.mark.parametrize("given_factors", [(2, 3), (7,), (2, 2, 2), (0, 9), (2.0, 4), 7, "ab", (-3, -3)])
@pytest.mark.parametrize("name", ["in_factors", "out_factors"])
def test_factors_that_do_not_hold_the_size_are_named(name: str, given_factors: Any) -> None:
    said = (
        f"BilinearLinear does not support {name}={given_factors!r} for size 7. Choose two positive integers whose "
        f"product is at least 7, such as (2, 4)."
    )
    with pytest.raises(ShapeError, match=re.escape(said)):
        BilinearLinear(7, 7, **{name: given_factors})


@pytest.mark.parametrize("shape", [(2, 7), (8, 2), (0, 7), ()])
def test_inputs_of_another_width_are_named_with_both_sizes(shape: tuple[int, ...]) -> None:
    said = f"BilinearLinear expects inputs of shape (..., 8), got {shape}. Change the size of the last axis to 8."
    with pytest.raises(ShapeError, match=re.escape(said)):
        BilinearLinear(8, 5)(torch.zeros(shape))


# ---- the comparisons can fail


@pytest.mark.parametrize("name", ["left", "right"])
def test_swapped_entries_are_noticed(name: str) -> None:
    layer = make(64, 64, dtype=torch.float64)
    x = models.inputs(4, 64, dtype=np.float64)
    other = copy.deepcopy(layer)
    factor = getattr(other, name).data
    factor[0, [3, 4], 0] = factor[0, [4, 3], 0]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(other(torch.from_numpy(x)), bilinear.expected(layer, x), nmse=1e-7, what="swapped")
