"""The window of a convolution: kernel size, stride, padding and dilation, for layers that replace Conv2d."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common.onnx_node import check_floating, check_replaced, is_size

Pair = int | tuple[int, int]
Padding = Pair | Literal["valid", "same"]


@dataclass(frozen=True)
class Window:
    """All pairs are (height, width) in pixels. padding has the values that torch.nn.Conv2d accepts."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] | Literal["valid", "same"]
    dilation: tuple[int, int]

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Zero padding (top, left, bottom, right). "same" adds the odd zero at the bottom or right, as in torch."""
        if self.padding == "same":
            height, width = (d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True))
            return height // 2, width // 2, height - height // 2, width - width // 2
        height, width = (0, 0) if isinstance(self.padding, str) else self.padding
        return height, width, height, width

    @property
    def positions(self) -> int:
        """The number of pixels in the window."""
        return self.kernel_size[0] * self.kernel_size[1]

    def attributes(self) -> dict[str, Sequence[int]]:
        """Returns the window as attributes of an ONNX Conv."""
        return {
            "kernel_shape": self.kernel_size,
            "strides": self.stride,
            "pads": self.pads,
            "dilations": self.dilation,
        }

    def configuration(self) -> dict[str, list[int]]:
        """Returns the window for the configuration in a checkpoint, with padding in pixels."""
        return {
            "kernel_size": list(self.kernel_size),
            "stride": list(self.stride),
            "pads": list(self.pads),
            "dilation": list(self.dilation),
        }

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        """Returns the height and width of the output."""
        top, left, bottom, right = self.pads
        whole = height + top + bottom, width + left + right
        return tuple(  # type: ignore[return-value]
            (size - d * (k - 1) - 1) // s + 1
            for size, k, s, d in zip(whole, self.kernel_size, self.stride, self.dilation, strict=True)
        )

    def check(self, layer: nn.Module, x: Tensor, channels: int) -> None:
        """Checks that x is an image with `channels` channels, and at least as large as the kernel.

        Does not check height and width during an export, where they may be dynamic.

        Raises:
            ShapeError: other channels, or an image that is too small.
            UsageError: not floating point.
        """
        name = type(layer).__name__
        check_floating(layer, x)
        if x.ndim not in (3, 4) or x.shape[-3] != channels:
            raise ShapeError(
                f"{name} expects images of shape (batch, {channels}, height, width) or ({channels}, height, width), "
                f"got {tuple(x.shape)}."
            )
        if not torch.onnx.is_in_onnx_export():
            self._check_image(name, *x.shape[-2:])

    def __str__(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding!r}, dilation={self.dilation}"
        )

    def _check_image(self, name: str, height: int, width: int) -> None:
        if min(height, width, *self.image_size(height, width)) < 1:
            reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            top, left, bottom, right = self.pads
            raise ShapeError(
                f"{name} has a window of {reach[0]} x {reach[1]} pixels, got an image of "
                f"{height} x {width}, {height + top + bottom} x {width + left + right} with padding. "
                "Use larger images, or more padding."
            )


def window(name: str, kernel_size: Pair, stride: Pair, padding: Padding, dilation: Pair) -> Window:
    """Returns the window for these arguments of torch.nn.Conv2d. `name` is the layer in error messages.

    Raises:
        ShapeError: a value that is not an integer or too small, an unknown padding mode, or "same" with a stride.
    """
    steps = pair(name, "stride", stride, 1)
    if padding == "same" and steps != (1, 1):
        raise ShapeError(
            f'{name} does not support padding="same" with stride={stride!r}. '
            "Choose stride=1, or give the padding in pixels."
        )
    words: dict[Any, Literal["valid", "same"]] = {"valid": "valid", "same": "same"}
    return Window(
        pair(name, "kernel_size", kernel_size, 1),
        steps,
        words[padding] if isinstance(padding, str) and padding in words else pair(name, "padding", padding, 0),
        pair(name, "dilation", dilation, 1),
    )


def check_convolution(layer: type[nn.Module], conv: nn.Conv2d) -> None:
    """Checks that `conv` is a convolution with groups=1 and zero padding, which `layer` can be fitted to.

    Raises:
        UsageError: another module, other groups or another padding mode.
    """
    check_replaced(layer, conv, nn.Conv2d)
    if conv.groups != 1 or conv.padding_mode != "zeros":
        raise UsageError(
            f"{layer.__name__} cannot replace a Conv2d with groups={conv.groups}, "
            f"padding_mode={conv.padding_mode!r}. Use one with groups=1 and padding_mode='zeros'."
        )


def convolution_arguments(conv: nn.Conv2d) -> tuple[int, int, Any, Any, Any, Any, bool]:
    """Returns the sizes, the window and whether there is a bias: the positional arguments of convolutional layers."""
    sizes, window = (conv.in_channels, conv.out_channels), (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    return *sizes, *window, conv.bias is not None


def convolution_repr(layer: Any) -> str:
    """Returns the arguments that convolutions with a Window have, for extra_repr()."""
    return (
        f"in_channels={layer.in_channels}, out_channels={layer.out_channels}, {layer.window}, "
        f"bias={layer.bias is not None}"
    )


def pair(name: str, argument: str, value: Any, least: int) -> tuple[int, int]:
    """Returns (height, width), given one integer for both or two. Both must be at least `least`.

    Raises:
        ShapeError: any other value.
    """
    both = value if isinstance(value, list | tuple) else (value, value)
    if len(both) == 2 and all(is_size(v) or (least == 0 and v == 0 and not isinstance(v, bool | float)) for v in both):
        return operator.index(both[0]), operator.index(both[1])
    words = ', or "valid" or "same"' if argument == "padding" else ""
    raise ShapeError(
        f"{name} does not support {argument}={value!r}. "
        f"Give an integer from {least} to 2**31 - 1, two integers (height, width){words}."
    )
