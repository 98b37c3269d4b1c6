"""LowRankLinear in torch: against numpy in float64, its gradients, the truncated SVD, and wrong arguments."""

import copy
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from edgefc import LowRankLinear
from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.low_rank import LowRankFit
from edgefc.layers.lowrank.linear import rank_of_ratio
from edgefc.testing import assert_close
from tests.support import layer_models as models
from tests.support.layer_models import numbers
from tests.support.lowrank_models import expected, make

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([61, 64, 97, 384]))


@given(n=SIZES, m=SIZES, bias=st.booleans(), data=st.data())
@settings(max_examples=30, deadline=None)
def test_forward_is_the_formula(n: int, m: int, bias: bool, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, min(n, m)))
    leading = data.draw(st.sampled_from([(4,), (), (2, 3)]))
    layer = make(n, m, bias, rank=rank, dtype=torch.float64)
    x = models.inputs(*leading, n, dtype=np.float64)
    assert_close(layer(torch.from_numpy(x)), expected(layer, x), nmse=1e-26, what="forward")
    entries = np.einsum("mr,rn->mn", numbers(layer.up), numbers(layer.down))
    assert_close(layer.dense(), entries, nmse=1e-28, what="dense")


def test_the_matrix_written_out() -> None:
    layer = LowRankLinear(3, 2, rank=1)
    layer.down.data, layer.up.data = torch.tensor([[1.0, 10.0, 100.0]]), torch.tensor([[2.0], [3.0]])
    layer.bias.data = torch.tensor([0.5, 0.25])  # type: ignore[union-attr]
    np.testing.assert_array_equal(layer.dense().numpy(), [[2, 20, 200], [3, 30, 300]])
    np.testing.assert_array_equal(layer(torch.eye(3)).detach().numpy(), [[2.5, 3.25], [20.5, 30.25], [200.5, 300.25]])


@pytest.mark.parametrize("leading", [(0,), (2, 0), (0, 3)])
def test_empty_batches_give_empty_answers(leading: tuple[int, ...]) -> None:
    assert LowRankLinear(12, 7, rank=2)(torch.zeros(*leading, 12)).shape == (*leading, 7)


@pytest.mark.parametrize(("n", "m", "rank"), [(1, 1, 1), (7, 3, 2), (3, 7, 3)])
def test_gradients_by_finite_differences(n: int, m: int, rank: int) -> None:
    layer = LowRankLinear(n, m, rank=rank, dtype=torch.float64)
    x = torch.from_numpy(models.inputs(2, n, dtype=np.float64)).requires_grad_()

    def forward(x: Any, down: Any, up: Any, bias: Any) -> Any:
        return torch.func.functional_call(layer, {"down": down, "up": up, "bias": bias}, x)

    assert torch.autograd.gradcheck(forward, (x, layer.down, layer.up, layer.bias))


# ---- the fit to a trained layer


def left_over(weight: NDArray[np.float64], rank: int) -> float:
    """The distance to the nearest matrix of that rank, by numpy's singular values."""
    return math.sqrt(np.square(np.linalg.svd(weight, compute_uv=False)[rank:]).sum())


@pytest.mark.parametrize(("n", "m", "rank"), [(1, 1, 1), (13, 29, 5), (29, 13, 5), (31, 31, 31), (97, 40, 12)])
def test_from_linear_is_the_truncated_svd(n: int, m: int, rank: int) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(n, m, dtype=torch.float64)
    layer = LowRankLinear.from_linear(linear, rank=rank)
    weight = numbers(linear.weight)
    distance = np.linalg.norm(numbers(layer.up) @ numbers(layer.down) - weight)
    assert distance == pytest.approx(left_over(weight, rank), abs=1e-7 * np.linalg.norm(weight))
    assert_close(layer.down.norm(dim=1), layer.up.norm(dim=0), nmse=1e-20, what="norms of the pairs")


@pytest.mark.parametrize(("n", "m"), [(24, 24), (13, 29)])
def test_from_linear_finds_what_a_layer_was_made_of(n: int, m: int) -> None:
    original = make(n, m, rank=4)
    linear = nn.Linear(n, m)
    linear.load_state_dict({"weight": original.dense(), "bias": original.bias.detach()})
    fitted = LowRankLinear.from_linear(linear, rank=4)
    assert fitted.bias is not None
    assert torch.equal(fitted.bias, original.bias)
    assert_close(fitted.dense(), original.dense(), nmse=1e-12, what="weight")


@given(n=SIZES, m=SIZES, ratio=st.floats(1, 64))
@settings(max_examples=100, deadline=None)
def test_a_ratio_is_the_largest_rank_within_it(n: int, m: int, ratio: float) -> None:
    rank = rank_of_ratio(n, m, ratio)
    assert 1 <= rank <= min(n, m)
    assert rank == 1 or rank * (n + m) * ratio <= n * m * (1 + 1e-12)
    assert (rank + 1) * (n + m) * ratio > n * m * (1 - 1e-12)


def test_from_linear_by_ratio() -> None:
    layer = LowRankLinear.from_linear(nn.Linear(48, 96), ratio=4)
    assert layer.rank == 8  # 48 * 96 / (4 * 144)
    assert layer.down.numel() + layer.up.numel() == 48 * 96 // 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_from_linear_keeps_what_the_layer_had(dtype: torch.dtype) -> None:
    linear = nn.Linear(6, 5, bias=False, dtype=dtype).eval().requires_grad_(False)
    layer = LowRankLinear.from_linear(linear, rank=2)
    assert (layer.down.dtype, layer.up.dtype, layer.bias) == (dtype, dtype, None)
    assert not layer.training
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_from_fit_takes_the_arrays_and_what_the_layer_had() -> None:
    like = nn.Linear(7, 5, dtype=torch.float16).eval().requires_grad_(False)
    random = np.random.default_rng(0)
    fit = LowRankFit(down=random.standard_normal((2, 7)), up=random.standard_normal((5, 2)), bias=np.arange(5.0))
    layer = LowRankLinear.from_fit(fit, like)
    assert_close(layer.dense(), fit.dense(), nmse=1e-6, what="dense")
    assert layer.bias is not None and layer.bias.tolist() == [0, 1, 2, 3, 4]
    assert layer.down.dtype == torch.float16
    assert not layer.training and not any(parameter.requires_grad for parameter in layer.parameters())
    assert LowRankLinear.from_fit(LowRankFit(down=fit.down, up=fit.up), like).bias is None


def test_a_fit_of_another_layer() -> None:
    said = (
        "the fit has down of shape (2, 7), and the LowRankLinear in the place of the trained layer has (2, 8). "
        "Pass the layer that was fitted."
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(said)}$"):
        LowRankLinear.from_fit(LowRankFit(down=np.zeros((2, 7)), up=np.zeros((5, 2))), nn.Linear(8, 5))


# ---- numbers stored, numbers drawn, products counted


def test_it_stores_what_its_docstring_says() -> None:
    with torch.device("meta"):
        layer = LowRankLinear(4096, 4096, False, rank=512)
    assert sum(p.numel() for p in layer.parameters()) == layer.multiply_adds() == 4_194_304


@pytest.mark.parametrize(("n", "m", "rank"), [(64, 64, 16), (32, 128, 8), (128, 32, 4)])
def test_fresh_layers_have_the_variance_of_a_dense_layer(n: int, m: int, rank: int) -> None:
    """Within four standard errors of 1/3, over 20 layers; the inner values have variance 1."""
    torch.manual_seed(0)
    layers = [LowRankLinear(n, m, rank=rank) for _ in range(20)]
    outer = [models.mean_row_power([layer]) for layer in layers]
    assert abs(np.mean(outer) - 1 / 3) < 4 * np.std(outer) / math.sqrt(20)
    inner = [float(layer.down.detach().double().square().sum(1).mean()) for layer in layers]
    assert abs(np.mean(inner) - 1) < 4 * np.std(inner) / math.sqrt(20)
    assert np.std(outer) < 0.1


@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 2e-6), (torch.bfloat16, 1e-4)])
def test_half_precision_stays_near(dtype: torch.dtype, nmse: float) -> None:
    layer: Any = LowRankLinear(61, 97, rank=9)
    models.check_half_precision(layer, dtype, nmse)


def test_repr_shows_how_to_make_it() -> None:
    layer = LowRankLinear(7, 10, False, rank=2)
    assert str(layer) == "LowRankLinear(in_features=7, out_features=10, bias=False, rank=2)"
    assert str(eval(str(layer))) == str(layer)


# ---- wrong arguments


@pytest.mark.parametrize("rank", [0, -1, 6, 1.5, True, None, "2"])
def test_ranks_that_do_not_fit(rank: Any) -> None:
    said = f"LowRankLinear does not support rank={rank!r}. Choose an integer from 1 to 5."
    with pytest.raises(ShapeError, match=f"^{re.escape(said)}$"):
        LowRankLinear(7, 5, rank=rank)
    if rank is not None:
        with pytest.raises(ShapeError, match=f"^{re.escape(said)}$"):
            LowRankLinear.from_linear(nn.Linear(7, 5), rank=rank)


@pytest.mark.parametrize("ratio", [0, 0.5, -4, math.nan, math.inf, True, "4"])
def test_ratios_that_are_no_numbers_from_1(ratio: Any) -> None:
    said = f"LowRankLinear does not support ratio={ratio!r}. Choose a number from 1, such as 4."
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        LowRankLinear.from_linear(nn.Linear(7, 5), ratio=ratio)


@pytest.mark.parametrize(("options", "given"), [({}, "neither"), ({"rank": 2, "ratio": 4}, "rank=2 and ratio=4")])
def test_one_of_rank_and_ratio(options: Any, given: str) -> None:
    said = f"LowRankLinear.from_linear needs a rank or a ratio, got {given}. Pass one of them."
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        LowRankLinear.from_linear(nn.Linear(7, 5), **options)


def test_weights_that_are_not_finite() -> None:
    linear = nn.Linear(7, 5)
    torch.nn.init.constant_(linear.weight, math.nan)
    with pytest.raises(UsageError, match="NaN or infinity"):
        LowRankLinear.from_linear(linear, rank=2)


# ---- the comparisons can fail


@pytest.mark.parametrize("name", ["down", "up"])
def test_swapped_entries_are_noticed(name: str) -> None:
    layer = make(64, 64, rank=8, dtype=torch.float64)
    x = models.inputs(4, 64, dtype=np.float64)
    other = copy.deepcopy(layer)
    factor = getattr(other, name).data
    factor[[3, 4], 0] = factor[[4, 3], 0]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(other(torch.from_numpy(x)), expected(layer, x), nmse=1e-7, what="swapped")
