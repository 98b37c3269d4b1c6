"""MonarchLinear in torch: against its three matrices in float64, its gradients, the nearest fit, wrong arguments."""

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

from edgefc import MonarchLinear
from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.monarch import fit_monarch
from edgefc.testing import assert_close
from tests.support import layer_models as models
from tests.support.layer_models import numbers
from tests.support.monarch_models import expected, make, matrix

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([61, 64, 97, 384]))


@given(n=SIZES, m=SIZES, bias=st.booleans(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_forward_is_the_product_of_the_three_matrices(n: int, m: int, bias: bool, data: st.DataObject) -> None:
    """For every number of blocks and every width, whether they divide anything or not."""
    blocks = data.draw(st.integers(1, min(n, m, 40)))
    width = data.draw(st.none() | st.integers(1, min(40, blocks * min(-(-n // blocks), -(-m // blocks)))))
    leading = data.draw(st.sampled_from([(4,), (), (2, 3)]))
    layer = make(n, m, bias, blocks=blocks, width=width, dtype=torch.float64)
    x = models.inputs(*leading, n, dtype=np.float64)
    assert_close(layer(torch.from_numpy(x)), expected(layer, x), nmse=1e-26, what="forward")
    assert_close(layer.dense(), matrix(layer), nmse=1e-28, what="dense")


def test_the_matrix_written_out() -> None:
    """4 to 4 in 2 blocks by hand: values a, b of block 0 and c, d of block 1 become (a, c) and (b, d)."""
    layer = MonarchLinear(4, 4, False, blocks=2)
    layer.first.data = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    layer.second.data = torch.tensor([[[1.0, 10.0], [2.0, 20.0]], [[3.0, 30.0], [4.0, 40.0]]])
    a, b, c, d = ([1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8])
    rows = [(1, a, 10, c), (2, a, 20, c), (3, b, 30, d), (4, b, 40, d)]
    by_hand = [[s * x + t * y for x, y in zip(u, v, strict=True)] for s, u, t, v in rows]
    np.testing.assert_array_equal(layer.dense().numpy(), by_hand)
    np.testing.assert_array_equal(layer(torch.eye(4)).detach().numpy(), np.transpose(by_hand))


def test_with_as_many_blocks_as_inputs_per_block_it_is_the_papers_matrix() -> None:
    """n = 9, blocks of 3 x 3: entry (3 i + u, 3 j + v) is second[i][u, j] first[j][i, v], of rank 1 per part."""
    layer = make(9, 9, False, blocks=3, dtype=torch.float64)
    first, second = numbers(layer.first), numbers(layer.second)
    entries = np.einsum("iuj,jiv->iujv", second, first).reshape(9, 9)
    assert_close(layer.dense(), entries, nmse=1e-30, what="entries")


@pytest.mark.parametrize("leading", [(0,), (2, 0), (0, 3)])
@pytest.mark.parametrize(("n", "m"), [(12, 7), (7, 12)])
def test_empty_batches_give_empty_answers(leading: tuple[int, ...], n: int, m: int) -> None:
    assert MonarchLinear(n, m, blocks=3)(torch.zeros(*leading, n)).shape == (*leading, m)


@pytest.mark.parametrize(("n", "m", "blocks"), [(1, 1, 1), (7, 5, 2), (4, 9, 3)])
def test_gradients_by_finite_differences(n: int, m: int, blocks: int) -> None:
    layer = MonarchLinear(n, m, blocks=blocks, dtype=torch.float64)
    x = torch.from_numpy(models.inputs(2, n, dtype=np.float64)).requires_grad_()

    def forward(x: Any, first: Any, second: Any, bias: Any) -> Any:
        return torch.func.functional_call(layer, {"first": first, "second": second, "bias": bias}, x)

    assert torch.autograd.gradcheck(forward, (x, layer.first, layer.second, layer.bias))


# ---- the fit to a trained layer


@pytest.mark.parametrize(
    ("n", "m", "blocks", "width"),
    [(1, 1, 1, 1), (16, 16, 4, 4), (12, 24, 3, 3), (13, 29, 3, 5), (29, 13, 3, 5), (20, 20, 4, 2), (40, 12, 4, 7)],
)
def test_from_linear_is_one_truncated_svd_per_part(n: int, m: int, blocks: int, width: int) -> None:
    """The distance is what numpy's singular values of all parts leave, each beyond its own rank."""
    torch.manual_seed(1)
    linear = nn.Linear(n, m, dtype=torch.float64)
    layer = MonarchLinear.from_linear(linear, blocks=blocks, width=width)
    p, o = -(-n // blocks), -(-m // blocks)
    weight = np.zeros((blocks * o, blocks * p))
    weight[:m, :n] = numbers(linear.weight)
    ranks = np.zeros((blocks, blocks), int)
    for place in range(blocks * width):
        ranks[place // width, place % blocks] += 1
    left_over = 0.0
    for i in range(blocks):
        for j in range(blocks):
            part = weight[i * o : (i + 1) * o, j * p : (j + 1) * p]
            left_over += np.square(np.linalg.svd(part, compute_uv=False)[ranks[i, j] :]).sum()
    distance = np.linalg.norm(matrix(layer) - weight[:m, :n])
    assert distance == pytest.approx(math.sqrt(left_over), abs=1e-7 * np.linalg.norm(weight))


@pytest.mark.parametrize(("n", "m", "blocks"), [(24, 24, 4), (13, 29, 3), (40, 10, 5)])
def test_from_linear_finds_what_a_layer_was_made_of(n: int, m: int, blocks: int) -> None:
    original = make(n, m, blocks=blocks)
    linear = nn.Linear(n, m)
    linear.load_state_dict({"weight": original.dense(), "bias": original.bias.detach()})
    fitted = MonarchLinear.from_linear(linear, blocks=blocks)
    assert fitted.bias is not None
    assert torch.equal(fitted.bias, original.bias)
    assert_close(fitted.dense(), original.dense(), nmse=1e-11, what="weight")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_from_linear_keeps_what_the_layer_had(dtype: torch.dtype) -> None:
    linear = nn.Linear(6, 5, bias=False, dtype=dtype).eval().requires_grad_(False)
    layer = MonarchLinear.from_linear(linear, blocks=2)
    assert (layer.first.dtype, layer.second.dtype, layer.bias) == (dtype, dtype, None)
    assert not layer.training
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_from_fit_takes_the_arrays_and_what_the_layer_had() -> None:
    like = nn.Linear(13, 10, dtype=torch.float16).eval().requires_grad_(False)
    weight = np.random.default_rng(0).standard_normal((10, 13))
    fit = fit_monarch(weight, np.arange(10.0), None, blocks=3, width=2)
    layer = MonarchLinear.from_fit(fit, like)
    assert (layer.blocks, layer.width) == (3, 2)
    assert_close(layer.dense(), fit.dense(), nmse=1e-6, what="dense")
    assert layer.bias is not None and layer.bias.tolist() == list(range(10))
    assert layer.first.dtype == torch.float16
    assert not layer.training and not any(parameter.requires_grad for parameter in layer.parameters())
    assert MonarchLinear.from_fit(fit_monarch(weight, None, None), like).bias is None


def test_a_fit_of_another_layer() -> None:
    """Also if the padded sizes are equal: 7 and 8 inputs are both two blocks of 4."""
    said = "the fit has in_features=7, and the trained layer has in_features=8. Pass the layer that was fitted."
    with pytest.raises(ShapeError, match=f"^{re.escape(said)}$"):
        MonarchLinear.from_fit(fit_monarch(np.ones((6, 7)), None, None, blocks=2), nn.Linear(8, 6))


def test_the_largest_width_represents_any_matrix() -> None:
    linear = nn.Linear(10, 7, dtype=torch.float64)
    layer = MonarchLinear.from_linear(linear, blocks=3, width=9)
    assert_close(layer.dense(), linear.weight, nmse=1e-14, what="weight")


# ---- numbers stored, numbers drawn, products counted


@pytest.mark.parametrize(("blocks", "stored"), [(4, 8_388_608), (64, 524_288)])
def test_it_stores_what_its_docstring_says(blocks: int, stored: int) -> None:
    with torch.device("meta"):
        layer = MonarchLinear(4096, 4096, False, blocks=blocks)
    assert sum(p.numel() for p in layer.parameters()) == layer.multiply_adds() == stored


@pytest.mark.parametrize(("n", "m", "blocks"), [(64, 64, 4), (32, 128, 8), (128, 32, 4)])
def test_fresh_layers_have_the_variance_of_a_dense_layer(n: int, m: int, blocks: int) -> None:
    """Within four standard errors of 1/3, over 20 layers."""
    torch.manual_seed(0)
    powers = [models.mean_row_power([MonarchLinear(n, m, blocks=blocks)]) for _ in range(20)]
    assert abs(np.mean(powers) - 1 / 3) < 4 * np.std(powers) / math.sqrt(20)
    assert np.std(powers) < 0.1


@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 2e-6), (torch.bfloat16, 1e-4)])
def test_half_precision_stays_near(dtype: torch.dtype, nmse: float) -> None:
    layer: Any = MonarchLinear(61, 97, blocks=4)
    models.check_half_precision(layer, dtype, nmse)


def test_repr_shows_how_to_make_it() -> None:
    layer = MonarchLinear(7, 10, False, blocks=2)
    assert str(layer) == "MonarchLinear(in_features=7, out_features=10, bias=False, blocks=2, width=4)"
    assert str(eval(str(layer))) == str(layer)


# ---- wrong arguments


@pytest.mark.parametrize("value", [0, -1, 7, 1.5, True, "2"])
@pytest.mark.parametrize(("argument", "most"), [("blocks", 5), ("width", 6)])
def test_blocks_and_widths_that_do_not_fit(argument: str, most: int, value: Any) -> None:
    said = f"MonarchLinear does not support {argument}={value!r}. Choose an integer from 1 to {most}."
    with pytest.raises(ShapeError, match=f"^{re.escape(said)}$"):
        MonarchLinear(7, 5, **{"blocks": 2, argument: value})
    with pytest.raises(ShapeError, match=f"^{re.escape(said)}$"):
        MonarchLinear.from_linear(nn.Linear(7, 5), **{"blocks": 2, argument: value})


def test_weights_that_are_not_finite() -> None:
    linear = nn.Linear(7, 5)
    torch.nn.init.constant_(linear.weight, math.nan)
    with pytest.raises(UsageError, match="contains NaN or infinity"):
        MonarchLinear.from_linear(linear, blocks=2)


# ---- the comparisons can fail


@pytest.mark.parametrize("name", ["first", "second"])
def test_swapped_entries_are_noticed(name: str) -> None:
    layer = make(64, 64, blocks=4, dtype=torch.float64)
    x = models.inputs(4, 64, dtype=np.float64)
    other = copy.deepcopy(layer)
    factor = getattr(other, name).data
    factor[0, [3, 4], 0] = factor[0, [4, 3], 0]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(other(torch.from_numpy(x)), expected(layer, x), nmse=1e-7, what="swapped")
