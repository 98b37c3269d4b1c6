"""The common part of convolutions whose kernel is stored in few bits."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common.no_weight import no_kernel
from edgefc.layers.common.onnx_node import Attribute, check_replaced, is_size, sizes, zero_bias
from edgefc.layers.common.stored import StoredWeights
from edgefc.layers.common.windows import Padding, Pair, window


class StoredConv2d(StoredWeights):
    """torch.nn.Conv2d with zero padding, whose kernel is not trained. A class defines `_kernel` and `_symbolic`.

    The kernel is (M, C / groups, kh, kw) for C input and M output channels.
    """

    weight = property(no_kernel)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair,
        padding: Padding,
        dilation: Pair,
        groups: int,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_channels, self.out_channels = sizes(name, in_channels, out_channels, "channels")
        if not is_size(groups) or self.in_channels % groups or self.out_channels % groups:
            raise ShapeError(
                f"{name} does not support groups={groups!r} with in_channels={in_channels}, "
                f"out_channels={out_channels}. Choose a divisor of both."
            )
        self.groups, self.padding = int(groups), padding
        self.window = window(name, kernel_size, stride, padding, dilation)
        self.kernel_shape = (self.out_channels, self.in_channels // self.groups, *self.window.kernel_size)
        self.bias = nn.Parameter(torch.empty(self.out_channels, device=device, dtype=dtype)) if bias else None

    @property
    def patch(self) -> int:
        """The numbers of one output channel in the kernel: C / groups * kh * kw."""
        return math.prod(self.kernel_shape[1:])

    def reset_parameters(self) -> None:
        """Draws the kernel with the variance of torch.nn.Conv2d, and the bias as torch.nn.Conv2d does."""
        bound = 1 / math.sqrt(self.patch)
        self._draw(bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        self.window.check(self, x, self.in_channels)
        if x.ndim == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        if torch.onnx.is_in_onnx_export():
            bias = zero_bias(self.like, self.out_channels) if self.bias is None else self.bias
            shape = (x.shape[0], self.out_channels, *self.window.image_size(*x.shape[-2:]))
            return self._symbolic(x, bias, self._attributes(), shape)
        top, left, bottom, right = self.window.pads
        x = nn.functional.pad(x, (left, right, top, bottom))
        kernel = self._kernel(x.dtype)
        step, dilation = self.window.stride, self.window.dilation
        return nn.functional.conv2d(x, kernel, self.bias, step, 0, dilation, self.groups)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the kernel (M, C / groups, kh, kw)."""
        return self._kernel(self.like.dtype).clone()

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per output position."""
        return math.prod(self.kernel_shape)

    def extra_repr(self) -> str:
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, {self.window}, groups={self.groups}, "
            f"bias={self.bias is not None}"
        )

    def _kernel(self, dtype: torch.dtype) -> Tensor:
        raise NotImplementedError  # nn.Module does not support abstract methods

    def _draw(self, bound: float) -> None:
        """Draws a kernel with the variance of U(-bound, bound)."""
        raise NotImplementedError  # defined by each layer

    def _symbolic(self, x: Tensor, bias: Tensor, attributes: dict[str, Attribute], shape: tuple[int, ...]) -> Tensor:
        """Returns the output of the layer's ONNX node."""
        raise NotImplementedError  # defined by each layer

    def _attributes(self) -> dict[str, Attribute]:
        own = {"in_channels": self.in_channels, "out_channels": self.out_channels, "groups": self.groups}
        return {**own, **self.window.attributes()}


def arguments(layer: type[nn.Module], conv: nn.Module) -> dict[str, Any]:
    """Returns the arguments of a trained convolution by name, without the bias.

    Raises:
        UsageError: another module, or a padding mode other than zeros.
    """
    check_replaced(layer, conv, nn.Conv2d)
    assert isinstance(conv, nn.Conv2d)
    if conv.padding_mode != "zeros":
        raise UsageError(
            f"{layer.__name__} cannot replace a Conv2d with padding_mode={conv.padding_mode!r}. "
            "Use one with padding_mode='zeros'."
        )
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    return {**{name: getattr(conv, name) for name in names}, "device": conv.weight.device, "dtype": conv.weight.dtype}


def replaced(layer: StoredConv2d, conv: nn.Module) -> None:
    """Copies the mode of a trained convolution, and whether its bias takes gradients."""
    bias = conv.bias
    if layer.bias is not None and isinstance(bias, Tensor):
        layer.bias.requires_grad_(bias.requires_grad)
    layer.train(conv.training)
