"""Bilinear convolution: each patch is reshaped to a matrix and multiplied from both sides by small matrices.

Source: Yu, Gao, Zhou, Zhang, "Parameter-Efficient Deep Neural Networks With Bilinear Projections", IEEE TNNLS 2021,
https://arxiv.org/abs/2011.01391, and the authors' code, https://github.com/yutao1008/Bi-DNNs.

From the authors' code: a patch in the order (kh, kw, C), C fastest, is one vector of D = kh kw C values. factors.py
splits D without regard to the axes. Y = L^T X R + B at each position; any stride, the padding of TensorFlow, dilation
1; glorot_uniform for each factor, zeros for the bias. Their "scale" s corresponds to out_channels = filters s^2, with
out_factors = s times those of the filters.

Our reconstructions: several terms; padding of D and truncation of the channels if they have no good factors; the
padding modes of torch; the fit to a trained layer.

Symbols: D <= d1 d2 values in a patch; M <= u1 u2 output channels; T terms.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.layers.bilinear import CLAIM, PAPER, kronecker
from edgefc.layers.bilinear.factors import Factored, check_terms, choose_factors
from edgefc.layers.common.entry import conv
from edgefc.layers.common.onnx_node import Attribute, check_replaced, layer_node, sizes, zero_bias
from edgefc.layers.common.windows import Padding, Pair, Window, window


class BilinearConv2d(Factored):
    """torch.nn.Conv2d of one group and dilation 1 whose weight is a sum of Kronecker products.

    For 256 to 256 channels, 3 x 3 and one term, the factors have 1,536 parameters and need 49,152 multiply-adds per
    position; a dense convolution has 589,824 of each. The forward in torch expands the weight, (M, D), and calls
    conv2d. It needs the memory and the multiply-adds of a dense convolution, plus T products per weight.

    padding is a number of pixels, a pair of them, "valid" or "same" as in torch.nn.Conv2d, or "tf_same". "tf_same" is
    "same" of TensorFlow, which the authors used: ceil(size / stride) outputs along each axis, and a total padding of
    max((outputs - 1) stride + kernel - size, 0) zeros, half before and half after, with the odd zero after. With stride
    2 and kernel size 3, an image of even size gets no zero before and one after. padding=1 instead adds one on each
    side, so the windows cover other pixels. Use "tf_same" for weights of a TensorFlow model.

    Shapes:
        left    (T, d1, u1)         right   (T, d2, u2)     bias    (M,) or None
        x       (batch, C, h, w)    y       (batch, M, h', w'); the batch axis is optional

    Raises:
        ShapeError: a size or a number of terms below 1, factors whose product is below the size, or padding="same"
            with a stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding | Literal["tf_same"] = 0,
        bias: bool = True,
        *,
        terms: int = 1,
        in_factors: Sequence[int] | None = None,
        out_factors: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_channels, self.out_channels = sizes(name, in_channels, out_channels, "channels")
        self.padding = padding
        self.window = _window(name, kernel_size, stride, padding)
        self.terms = check_terms(name, terms)
        patch = self.window.positions * self.in_channels
        self.in_factors = choose_factors(name, "in_factors", patch, in_factors)
        self.out_factors = choose_factors(name, "out_factors", self.out_channels, out_factors)
        self._make_factors(device=device, dtype=dtype)
        self.bias = nn.Parameter(torch.empty(self.out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        self.window.check(self, x, self.in_channels)
        if x.ndim == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        products = torch.einsum("tiu,tjv->ijuv", self.left, self.right)
        weight = self._weight(products.flatten(0, 1).flatten(1))
        top, left, bottom, right = _pads(self.window, x)
        x = nn.functional.pad(x, (left, right, top, bottom))
        return nn.functional.conv2d(x, weight, self.bias, self.window.stride)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the weight (M, C, kh, kw) of the equivalent Conv2d. With "tf_same", its input is the padded image."""
        d, u = (a * b for a, b in (self.in_factors, self.out_factors))
        return self._weight(kronecker.expand(self.left, self.right, d, u)).contiguous()

    @classmethod
    @torch.no_grad()
    def from_conv(
        cls,
        conv: nn.Conv2d,
        *,
        terms: int = 1,
        in_factors: Sequence[int] | None = None,
        out_factors: Sequence[int] | None = None,
    ) -> "BilinearConv2d":
        """Returns a layer fitted to a trained convolution in the Frobenius norm of the weight. Keeps the bias.

        The fit is optimal if no size is padded or cut. Otherwise it is an approximation (kronecker.nearest).

        Raises:
            UsageError: a convolution with several groups, a dilation, or a padding mode other than zeros.
        """
        check_replaced(cls, conv, nn.Conv2d)
        if conv.groups != 1 or any(d != 1 for d in conv.dilation) or conv.padding_mode != "zeros":
            raise UsageError(
                f"BilinearConv2d cannot replace a convolution with groups={conv.groups}, "
                f"dilation={conv.dilation}, padding_mode={conv.padding_mode!r}. "
                "Use one with groups=1, dilation=1 and padding_mode='zeros'."
            )
        weight = conv.weight
        kernel, stride, padding = (cast(Any, value) for value in (conv.kernel_size, conv.stride, conv.padding))
        layer = cls(
            conv.in_channels, conv.out_channels, kernel, stride, padding, conv.bias is not None, terms=terms,
            in_factors=in_factors, out_factors=out_factors, device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
        matrix = weight.permute(2, 3, 1, 0).flatten(0, 2)  # (D, M)
        layer._fit(matrix)
        if layer.bias is not None and conv.bias is not None:
            layer.bias.copy_(conv.bias)
        return layer

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.window.kernel_size}, "
            f"stride={self.window.stride}, padding={self.padding!r}, bias={self.bias is not None}, "
            f"terms={self.terms}, in_factors={self.in_factors}, out_factors={self.out_factors}"
        )

    def _weight(self, matrix: Tensor) -> Tensor:
        """(d1 d2, u1 u2) -> (M, C, kh, kw)."""
        height, width = self.window.kernel_size
        matrix = matrix[: height * width * self.in_channels, : self.out_channels]
        return matrix.reshape(height, width, self.in_channels, self.out_channels).permute(3, 2, 0, 1)

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.left, self.out_channels) if self.bias is None else self.bias
        same = isinstance(self.window, _TensorFlowSame)
        attributes: dict[str, Attribute] = {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_shape": self.window.kernel_size,
            "strides": self.window.stride,
            "pads": (0, 0, 0, 0) if same else self.window.pads,
            "same_upper": int(same),
            "in_factors": self.in_factors,
            "out_factors": self.out_factors,
            "terms": self.terms,
        }
        shape = (x.shape[0], self.out_channels, *self.window.image_size(*x.shape[-2:]))
        return layer_node(self, x, (self.left, self.right, bias), attributes, shape, op="BilinearConv2d")


class _TensorFlowSame(Window):
    """A window whose padding depends on the image size: "same" in TensorFlow, SAME_UPPER in ONNX."""

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // self.stride[0]), -(-width // self.stride[1])

    def pads_of(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Returns the zero padding (top, left, bottom, right) of an image of this size."""
        outputs = self.image_size(height, width)
        up, across = (
            max((count - 1) * step + kernel - size, 0)
            for count, step, kernel, size in zip(outputs, self.stride, self.kernel_size, (height, width), strict=True)
        )
        return up // 2, across // 2, up - up // 2, across - across // 2


def _window(name: str, kernel_size: Pair, stride: Pair, padding: Padding | Literal["tf_same"]) -> Window:
    if padding != "tf_same":
        return window(name, kernel_size, stride, padding, 1)
    plain = window(name, kernel_size, stride, "valid", 1)
    return _TensorFlowSame(plain.kernel_size, plain.stride, plain.padding, plain.dilation)


def _pads(window: Window, x: Tensor) -> tuple[int, int, int, int]:
    """Returns the zero padding (top, left, bottom, right) of the images x."""
    return window.pads_of(*x.shape[-2:]) if isinstance(window, _TensorFlowSame) else window.pads


ENTRIES = (conv("BilinearConv2d", PAPER, CLAIM, lambda n: BilinearConv2d(n, n, 3, padding=1), "bilinear-cnn"),)
