"""HalfLinear: the rounded weight, its forward, and what it refuses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgefc import HalfLinear
from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.half import fit_half
from edgefc.testing import assert_close
from tests.support import layer_models as models

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([61, 384, 768]))


@given(n=SIZES, m=SIZES, bias=st.booleans())
@settings(max_examples=25, deadline=None)
def test_from_linear_rounds_to_float16(n: int, m: int, bias: bool) -> None:
    linear = nn.Linear(n, m, bias, dtype=torch.float64)
    layer, x = HalfLinear.from_linear(linear), models.inputs(3, n, dtype=np.float64)
    weight = linear.weight.detach().numpy().astype(np.float16).astype(np.float64)
    y = x @ weight.T + (linear.bias.detach().numpy() if bias else 0)
    assert_close(layer(torch.from_numpy(x)), y, nmse=1e-26, what="forward")
    assert np.array_equal(layer.dense().numpy(), weight)


def test_stores_two_bytes_for_each_weight_whatever_the_dtype() -> None:
    layer = HalfLinear(40, 30, False)
    for convert in (nn.Module.double, nn.Module.bfloat16, nn.Module.float):
        assert sum(tensor.nbytes for tensor in convert(layer).state_dict().values()) == 2 * 40 * 30


def test_conv1d_of_transformers() -> None:
    from transformers.pytorch_utils import Conv1D

    given = Conv1D(7, 13)  # 13 inputs
    nn.init.normal_(given.bias)
    layer, x = HalfLinear.from_linear(given), torch.randn(2, 13)
    assert_close(layer(x), given(x), nmse=1e-6, what="Conv1D")


def test_weights_that_float16_cannot_hold() -> None:
    linear = nn.Linear(3, 2)
    linear.weight.data[0, 0] = 7e4
    with pytest.raises(UsageError, match=r"65504, and a weight is 70000"):
        HalfLinear.from_linear(linear)
    with pytest.raises(ShapeError, match="in_features=0"):
        HalfLinear(0, 2)


def test_from_fit_takes_over_what_the_layer_was() -> None:
    linear = nn.Linear(5, 3, dtype=torch.bfloat16).eval()
    linear.bias.requires_grad_(False)
    layer = HalfLinear.from_fit(fit_half(np.ones((3, 5)), np.ones(3)), linear)
    assert layer.bias is not None
    assert (layer.bias.dtype, layer.bias.requires_grad, layer.training) == (torch.bfloat16, False, False)
    assert torch.equal(layer(torch.ones(5, dtype=torch.bfloat16)), torch.full((3,), 6, dtype=torch.bfloat16))
