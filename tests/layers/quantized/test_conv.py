"""QuantizedConv2d: what torch's convolution gives with the kernel of the fit."""

from typing import Any

import pytest
import torch
from torch import nn

from edgefc import QuantizedConv2d
from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.quantized import fit_quantized
from edgefc.testing import assert_close

WINDOWS: list[dict[str, Any]] = [
    {"kernel_size": 1},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)},
    {"kernel_size": 3, "padding": "same", "groups": 6, "bias": False},
    {"kernel_size": 5, "padding": 2, "groups": 2},
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("bits", "group"), [(8, 128), (4, 16), (2, 32)])
def test_computes_what_was_fitted(window: dict[str, Any], bits: int, group: int) -> None:
    conv = nn.Conv2d(6, 12, **window, dtype=torch.float64)
    rows, bias = conv.weight.detach().flatten(1).numpy(), None if conv.bias is None else conv.bias.detach().numpy()
    fit = fit_quantized(rows, bias, None, bits, group, method="nearest")
    layer, x = QuantizedConv2d.from_fit(fit, conv), torch.randn(2, 6, 9, 8, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(fit.dense()).view_as(conv.weight))
    assert_close(layer(x), conv(x), nmse=1e-26, what="forward")
    assert_close(layer(x[0]), conv(x[0]), nmse=1e-26, what="one image")
    assert_close(layer.dense(), conv.weight, nmse=1e-28, what="dense")


def test_from_conv_is_near() -> None:
    conv = nn.Conv2d(6, 12, 3).eval()
    layer, x = QuantizedConv2d.from_conv(conv, bits=8, group=128), torch.randn(2, 6, 9, 8)
    assert (layer.group, layer.training) == (64, False)  # of 54 numbers
    assert_close(layer(x), conv(x), nmse=1e-3, what="8 bits")


def test_mistakes() -> None:
    with pytest.raises(ShapeError, match="groups=4 with in_channels=6"):
        QuantizedConv2d(6, 8, 3, groups=4)
    fit = fit_quantized(torch.randn(4, 9).numpy(), None, None, 4, 32, seed=1)
    with pytest.raises(UsageError, match="no rotation and no correction"):
        QuantizedConv2d.from_fit(fit, nn.Conv2d(1, 4, 3, bias=False))
