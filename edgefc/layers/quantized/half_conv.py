"""Convolution with its kernel in float16. The runtime converts it to float32 when it loads the file."""

import torch
from torch import Tensor, nn

from edgefc.fitting.half import HalfFit
from edgefc.layers.common.entry import conv
from edgefc.layers.common.onnx_node import Attribute, layer_node
from edgefc.layers.common.windows import Padding, Pair
from edgefc.layers.quantized import CLAIM, PAPER, halves
from edgefc.layers.quantized.images import StoredConv2d, arguments, replaced


class HalfConv2d(StoredConv2d):
    """torch.nn.Conv2d with its kernel in float16. The layer computes in the dtype of its input.

    A file has half the bytes of a dense kernel. In memory, and in time, it is a dense layer.

    Shapes:
        half_weight     (M, C / groups, kh, kw) float16     bias    (M,) or None
        x               (B, C, h, w) or (C, h, w)           y       (B, M, h', w') or (M, h', w')

    Raises:
        ShapeError: a size, stride, padding, dilation or number of groups that torch.nn.Conv2d does not support.
    """

    half_weight: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device, dtype)
        self._store(device, dtype, half_weight=halves.empty(*self.kernel_shape, device=device))
        self.reset_parameters()

    @classmethod
    def from_fit(cls, fit: HalfFit, like: nn.Module) -> "HalfConv2d":
        """Returns the layer of a fit of the kernel as a matrix (M, C / groups * kh * kw).

        `like` is the torch.nn.Conv2d that was fitted. Its dtype, device, mode and requires_grad are kept.

        Raises:
            UsageError: a padding mode other than zeros.
        """
        own = arguments(cls, like)
        layer = cls(bias=fit.bias is not None, **own)
        halves.load(layer, fit)
        replaced(layer, like)
        return layer

    @classmethod
    def from_conv(cls, conv: nn.Conv2d) -> "HalfConv2d":
        """Returns the layer with the kernel of `conv` rounded to float16.

        Raises:
            UsageError: a weight is larger than 65504, or a padding mode other than zeros.
        """
        arguments(cls, conv)
        return cls.from_fit(halves.fit(conv.weight.flatten(1), conv.bias), conv)

    def _kernel(self, dtype: torch.dtype) -> Tensor:
        return self.half_weight.to(dtype)

    def _draw(self, bound: float) -> None:
        nn.init.uniform_(self.half_weight, -bound, bound)

    def _symbolic(self, x: Tensor, bias: Tensor, attributes: dict[str, Attribute], shape: tuple[int, ...]) -> Tensor:
        return layer_node(self, x, (self.half_weight, bias), attributes, shape, op="HalfConv2d")


ENTRIES = (conv("HalfConv2d", PAPER, CLAIM, lambda n: HalfConv2d(n, n, 3, padding=1)),)
