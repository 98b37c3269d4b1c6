"""Where a convolution looks: the sizes of its kernel, its steps and its edges, for layers in the place of Conv2d."""

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
    """Height before width, in pixels; padding as torch.nn.Conv2d takes it."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] | Literal["valid", "same"]
    dilation: tuple[int, int]

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Zeros above, left, below, right. "same" puts an odd one below or right, as torch does."""
        if self.padding == "same":
            height, width = (d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True))
            return height // 2, width // 2, height - height // 2, width - width // 2
        height, width = (0, 0) if isinstance(self.padding, str) else self.padding
        return height, width, height, width

    @property
    def positions(self) -> int:
        """How many pixels one output looks at."""
        return self.kernel_size[0] * self.kernel_size[1]

    def attributes(self) -> dict[str, Sequence[int]]:
        """The same as attributes of an ONNX Conv."""
        return {
            "kernel_shape": self.kernel_size,
            "strides": self.stride,
            "pads": self.pads,
            "dilations": self.dilation,
        }

    def configuration(self) -> dict[str, list[int]]:
        """The same for a checkpoint, with padding in pixels."""
        return {
            "kernel_size": list(self.kernel_size),
            "stride": list(self.stride),
            "pads": list(self.pads),
            "dilation": list(self.dilation),
        }

    def image_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output."""
        top, left, bottom, right = self.pads
        whole = height + top + bottom, width + left + right
        return tuple(  # type: ignore[return-value]
            (size - d * (k - 1) - 1) // s + 1
            for size, k, s, d in zip(whole, self.kernel_size, self.stride, self.dilation, strict=True)
        )

    def check(self, layer: nn.Module, x: Tensor, channels: int) -> None:
        """Refuse what is no image of `channels` channels, and images that are smaller than the kernel.

        Sizes are not looked at while exporting, where they may be open.

        Raises:
            ShapeError: with both sizes.
            UsageError: not floating point.
        """
        name = type(layer).__name__
        check_floating(layer, x)
        if x.ndim not in (3, 4) or x.shape[-3] != channels:
            raise ShapeError(
                f"{name} takes images of {channels} channels and was given shape {tuple(x.shape)}. "
                f"Give (batch, {channels}, height, width) or ({channels}, height, width)."
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
                f"{name} looks at {reach[0]} x {reach[1]} pixels at once and was given an image of "
                f"{height} x {width}, {height + top + bottom} x {width + left + right} with its padding. "
                "Give larger images, or more padding."
            )


def window(name: str, kernel_size: Pair, stride: Pair, padding: Padding, dilation: Pair) -> Window:
    """The window that these arguments of torch.nn.Conv2d mean, for the layer `name`.

    Raises:
        ShapeError: a size that is no whole number or too small, padding by another word, or "same" with steps.
    """
    steps = pair(name, "stride", stride, 1)
    if padding == "same" and steps != (1, 1):
        raise ShapeError(
            f'{name} cannot keep the size of images with padding="same" and stride={stride!r}. '
            "Choose stride=1, or say the padding in pixels."
        )
    words: dict[Any, Literal["valid", "same"]] = {"valid": "valid", "same": "same"}
    return Window(
        pair(name, "kernel_size", kernel_size, 1),
        steps,
        words[padding] if isinstance(padding, str) and padding in words else pair(name, "padding", padding, 0),
        pair(name, "dilation", dilation, 1),
    )


def check_convolution(layer: type[nn.Module], conv: nn.Conv2d) -> None:
    """Refuse to fit `layer` to anything but a convolution of one group with zeros at its edges.

    Raises:
        UsageError: with what it has instead.
    """
    check_replaced(layer, conv, nn.Conv2d)
    if conv.groups != 1 or conv.padding_mode != "zeros":
        raise UsageError(
            f"{layer.__name__} cannot take the place of a Conv2d with groups={conv.groups}, "
            f"padding_mode={conv.padding_mode!r}. Give one with groups=1 and padding_mode='zeros'."
        )


def pair(name: str, argument: str, value: Any, least: int) -> tuple[int, int]:
    """Two whole numbers from `least`, height and width, from two or from one for both.

    Raises:
        ShapeError: anything else.
    """
    both = value if isinstance(value, list | tuple) else (value, value)
    if len(both) == 2 and all(is_size(v) or (least == 0 and v == 0 and not isinstance(v, bool | float)) for v in both):
        return operator.index(both[0]), operator.index(both[1])
    words = ', or "valid" or "same"' if argument == "padding" else ""
    raise ShapeError(
        f"{name} cannot take {argument}={value!r}. "
        f"Give a whole number from {least} to 2**31 - 1, or two, height and width{words}."
    )
