"""For the tests of CirculantConv2d: its weight and its convolution written again in numpy, in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edgefc import CirculantConv2d, generator

CASES = [  # channels in, out, block; kernel, stride, padding, dilation; height, width
    pytest.param(1, 1, None, 1, 1, 0, 1, (3, 2), id="one-number"),
    pytest.param(1, 1, 1, 3, 1, 1, 1, (3, 3), id="one-channel"),
    pytest.param(6, 6, 1, 3, 1, 1, 1, (4, 5), id="blocks-of-one"),
    pytest.param(6, 4, 2, 3, 1, 1, 1, (5, 4), id="blocks-of-two"),
    pytest.param(7, 7, None, 3, 1, 1, 1, (5, 5), id="prime"),
    pytest.param(3, 16, None, 3, 2, 1, 1, (9, 8), id="first-layer"),
    pytest.param(16, 3, None, 1, 1, 0, 1, (4, 4), id="few-outputs"),
    pytest.param(8, 8, 4, 3, 1, 1, 1, (6, 6), id="2-by-2"),
    pytest.param(4, 12, 4, 3, 1, 1, 1, (6, 6), id="1-across-3-down"),
    pytest.param(12, 4, 4, 3, 1, 1, 1, (6, 6), id="3-across-1-down"),
    pytest.param(5, 7, 3, (2, 3), (1, 2), (0, 2), (1, 2), (6, 9), id="all-cut-and-uneven"),
    pytest.param(10, 13, 5, 3, 3, 2, 2, (11, 10), id="steps-and-gaps"),
    pytest.param(6, 6, 3, 2, 1, "same", 1, (5, 4), id="same-even"),
    pytest.param(6, 6, 3, (4, 3), 1, "same", (1, 2), (7, 6), id="same-even-and-gaps"),
    pytest.param(6, 6, 3, 3, 2, "valid", 1, (7, 8), id="valid"),
    pytest.param(4, 4, 4, 3, 1, 0, 1, (3, 3), id="one-position"),
]


def weight(layer: CirculantConv2d) -> NDArray[np.float64]:
    """(m, n, kh, kw), entry by entry: kernel[i // b, j // b, (i - j) mod b] sign[j], i and j within their blocks."""
    kernel, b = layer.kernel.detach().double().numpy(), layer.block
    signs = generator.matrix(layer.seed, 1, layer.in_channels, "rademacher")[0].astype(np.float64)
    i, j = np.indices((layer.out_channels, layer.in_channels))
    result: NDArray[np.float64] = kernel[i // b, j // b, (i % b - j % b) % b] * signs[:, None, None]
    return result


def expected(
    layer: CirculantConv2d, x: NDArray[Any], stride: Any = 1, padding: Any = 0, dilation: Any = 1
) -> NDArray[np.float64]:
    """The sum over the positions of the kernel of weight[:, :, y, x] times the pixels under it; no layer's code."""
    w = weight(layer)
    (sh, sw), (dh, dw) = both(stride), both(dilation)
    kh, kw = w.shape[2:]
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *edges(padding, kh, dh, 0), *edges(padding, kw, dw, 1)))
    height, width = (x.shape[2] - dh * (kh - 1) - 1) // sh + 1, (x.shape[3] - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((len(x), len(w), height, width))
    for v in range(kh):
        for u in range(kw):
            rows, columns = v * dh + sh * np.arange(height), u * dw + sw * np.arange(width)
            y += np.einsum("oi,bihw->bohw", w[:, :, v, u], x[:, :, rows][:, :, :, columns])
    return y if layer.bias is None else y + layer.bias.detach().double().numpy()[:, None, None]


def edges(padding: Any, k: int, d: int, axis: int) -> list[tuple[int, int]]:
    """Zeros before and behind; "same" puts the odd one behind."""
    if padding == "same":
        return [(d * (k - 1) // 2, d * (k - 1) - d * (k - 1) // 2)]
    return [(0, 0)] if padding == "valid" else [(both(padding)[axis],) * 2]


def both(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def make(n: int, m: int, kernel_size: Any, *args: Any, seed: int = 3, **options: Any) -> CirculantConv2d:
    """A layer whose bias is not zero."""
    torch.manual_seed(0)
    layer = CirculantConv2d(n, m, kernel_size, *args, seed=seed, **options)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer
