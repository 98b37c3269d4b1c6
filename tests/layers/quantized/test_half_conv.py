"""HalfConv2d: what torch's convolution gives with the rounded kernel."""

import pytest
import torch
from torch import nn

from edgefc import HalfConv2d
from edgefc.errors import UsageError
from edgefc.testing import assert_close


def test_from_conv_rounds_to_float16() -> None:
    conv = nn.Conv2d(6, 8, (3, 2), (2, 1), (1, 2), (1, 2), groups=2, dtype=torch.float64)
    layer, x = HalfConv2d.from_conv(conv), torch.randn(2, 6, 9, 8, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(conv.weight.half())
    assert_close(layer(x), conv(x), nmse=1e-26, what="forward")
    assert torch.equal(layer.dense(), conv.weight)


def test_padding_modes_are_refused() -> None:
    with pytest.raises(UsageError, match="padding_mode='circular'"):
        HalfConv2d.from_conv(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"))
