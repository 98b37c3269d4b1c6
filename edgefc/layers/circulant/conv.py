"""Circulant convolution: the matrix over the channels is block-circulant at each position of the kernel.

Source: Ding et al., "CirCNN", https://arxiv.org/abs/1708.08917, and "CircConv", https://arxiv.org/abs/1902.11268. Both
papers use a block-circulant matrix over the channels at each kernel position. The sign flips come from the circulant
paper of 2015 (linear.py), which has no convolution.

Our reconstructions: the sign flips in a convolution, the initialisation, and the truncation of sizes that are not
multiples of the block length.

Symbols: n input channels, m output channels, b block length, p = ceil(m / b), q = ceil(n / b), kernel kh x kw.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import Self

from edgefc.layers.circulant import PAPER
from edgefc.layers.circulant.blocks import check_block, diagonal_means, expand, fft_dtype, spectral_products, transform
from edgefc.layers.common import seeded
from edgefc.layers.common.checkpoint import Seeded
from edgefc.layers.common.configuration import Configuration
from edgefc.layers.common.entry import OURS, conv
from edgefc.layers.common.onnx_node import Attribute, layer_node, sizes, zero_bias
from edgefc.layers.common.windows import (
    Padding,
    Pair,
    check_convolution,
    convolution_arguments,
    convolution_repr,
    window,
)


class CirculantConv2d(Seeded):
    """torch.nn.Conv2d with groups=1 whose weight is p x q circulant blocks at each kernel position, times seeded signs.

    weight[i, j, y, x] = kernel[i // b, j // b, (i - j) mod b, y, x] * sign[j]: each parameter determines b weights. For
    256 to 256 channels and 3 x 3, block=16 stores 36,864 parameters; a dense convolution stores 589,824. block=None is
    a single circulant of length max(n, m). Padding and output sizes are those of torch.nn.Conv2d.

    Shapes:
        kernel  (p, q, b, kh, kw)       bias    (m,) or None
        x       (batch, n, h, w)        y       (batch, m, h', w'); the batch axis is optional

    The state dict stores the seed of the signs, and load_state_dict() restores it (common/checkpoint.py). seed=None
    draws a seed from torch's generator. float16 and bfloat16 inputs are computed in float32, because half-precision
    FFTs require powers of two.

    Raises:
        ShapeError: a size below 1, a block longer than max(n, m), or padding="same" with a stride.
        UsageError: a seed that is not an integer from 0 to 2**64 - 1; from load_state_dict(), a checkpoint with
            another configuration.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        bias: bool = True,
        *,
        block: int | None = None,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        n, m = sizes("CirculantConv2d", in_channels, out_channels, "channels")
        self.in_channels, self.out_channels = n, m
        self.window = window("CirculantConv2d", kernel_size, stride, padding, dilation)
        self.block = check_block("CirculantConv2d", "channels", n, m, block)
        self._store_seed(seed, device)
        size = (math.ceil(m / self.block), math.ceil(n / self.block), self.block, *self.window.kernel_size)
        self.kernel = nn.Parameter(torch.empty(size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(m, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def configuration(self) -> Configuration:
        return {
            "layer": "CirculantConv2d",
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "block": self.block,
            **self.window.configuration(),
        }

    def reset_parameters(self) -> None:
        """Draws the kernel from N(0, 1 / (n kh kw)), so that white input of variance 1 gives output of variance 1.

        The bias is zero.
        """
        nn.init.normal_(self.kernel, std=1 / math.sqrt(self.in_channels * self.window.positions))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        self.window.check(self, x, self.in_channels)
        if x.ndim == 3:
            return self(x.unsqueeze(0)).squeeze(0)  # type: ignore[no-any-return]
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        y = self._spectral(x) if x.shape[0] else self._direct(x)  # FFT libraries do not support empty batches
        return y if self.bias is None else y + self.bias[:, None, None]

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the weight (m, n, kh, kw) of the equivalent Conv2d, computed independently of forward()."""
        return self._weight()

    @classmethod
    @torch.no_grad()
    def from_conv(cls, conv: nn.Conv2d, *, block: int | None = None, seed: int | None = None) -> "CirculantConv2d":
        """Returns the circulant convolution nearest to a trained one in the Frobenius norm. Keeps all other settings.

        The solution has a closed form: the mean of the sign-flipped weight along each wrapped diagonal of each block,
        at each kernel position.

        Raises:
            UsageError: several groups, or a padding mode other than zeros.
        """
        check_convolution(cls, conv)
        weight = conv.weight
        layer = cls(*convolution_arguments(conv), block=block, seed=seed, device=weight.device, dtype=weight.dtype)
        layer.kernel.copy_(diagonal_means(weight.double() * layer._signs(weight.double()), layer.block))
        if layer.bias is not None:
            layer.bias.copy_(conv.bias)  # type: ignore[arg-type]
        return layer

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per output position: kh kw p q products of spectra, p inverse transforms, and q
        forward transforms per input position. A stride of (s1, s2) has s1 s2 input positions per output position.

        A transform costs 1.25 b log2(b). A product costs 2 b - 1, or 2 b - 2 for even b; see CirculantLinear.
        """
        p, q, b, kh, kw = self.kernel.shape
        steps = self.window.stride[0] * self.window.stride[1]
        return (p + q * steps) * transform(b) + kh * kw * p * q * spectral_products(b)

    def extra_repr(self) -> str:
        return f"{convolution_repr(self)}, block={self.block}, seed={self.seed}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Overrides nn.Module._apply: presents the 5-D kernel as 3-D, because memory formats do not support 5 axes."""

        def apply_flat(tensor: Tensor) -> Tensor:
            return fn(tensor.flatten(0, 2)).reshape(tensor.shape) if tensor.ndim == 5 else fn(tensor)

        super()._apply(apply_flat, recurse)
        return self

    def _spectral(self, x: Tensor) -> Tensor:
        """Computes one complex convolution from q to p channels for each frequency."""
        p, q, b, *_ = self.kernel.shape
        u = x.to(fft_dtype(x.dtype))
        u = self._padded(u * self._signs(u), q * b - self.in_channels)
        u = torch.fft.rfft(u.reshape(len(u), q, b, *u.shape[2:]), dim=2)  # (batch, q, f, h, w)
        weight = torch.fft.rfft(self.kernel.to(u.real.dtype), dim=2)  # (p, q, f, kh, kw)
        y = nn.functional.conv2d(
            u.transpose(1, 2).flatten(1, 2),
            weight.permute(2, 0, 1, 3, 4).flatten(0, 1),
            stride=self.window.stride,
            dilation=self.window.dilation,
            groups=weight.shape[2],
        )  # (batch, f p, h', w')
        y = y.reshape(len(y), -1, p, *y.shape[2:]).transpose(1, 2)
        channels: Tensor = torch.fft.irfft(y, n=b, dim=2).flatten(1, 2)[:, : self.out_channels]
        return channels.to(x.dtype)

    def _direct(self, x: Tensor) -> Tensor:
        """Computes the convolution with the expanded weight."""
        stride, dilation = self.window.stride, self.window.dilation
        weight = self._weight().to(x.dtype)
        return nn.functional.conv2d(self._padded(x, 0), weight, stride=stride, dilation=dilation)

    def _padded(self, x: Tensor, channels: int) -> Tensor:
        """Pads x with the zeros of the window, and appends `channels` zero channels."""
        top, left, bottom, right = self.window.pads
        return nn.functional.pad(x, (left, right, top, bottom, 0, channels))

    def _weight(self) -> Tensor:
        weight = expand(self.kernel, self.in_channels, self.out_channels)
        return weight * self._signs(weight)

    def _signs(self, like: Tensor) -> Tensor:
        """(n, 1, 1)"""
        return seeded.signs(self.traceable_seed, self.in_channels, dtype=like.dtype, device=like.device)[:, None, None]

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.kernel, self.out_channels) if self.bias is None else self.bias
        attributes: dict[str, Attribute] = {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "block": self.block,
            "sign_seed": self.seed,
            **self.window.attributes(),
        }
        shape = (x.shape[0], self.out_channels, *self.window.image_size(x.shape[2], x.shape[3]))
        return layer_node(self, x, (self.kernel, bias), attributes, shape, op="CirculantConv2d")


ENTRIES = (
    conv("CirculantConv2d, block 16", PAPER, OURS, lambda n: CirculantConv2d(n, n, 3, padding=1, block=min(n, 16))),
)
