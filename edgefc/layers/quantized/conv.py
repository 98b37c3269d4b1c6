"""Convolution with its kernel in codes of 2, 4 or 8 bits. The runtime expands them when it loads the file."""

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.fitting.quantized import QuantizedFit
from edgefc.layers.common.entry import conv
from edgefc.layers.common.onnx_node import Attribute, layer_node
from edgefc.layers.common.windows import Padding, Pair
from edgefc.layers.quantized import CLAIM, PAPER, packing
from edgefc.layers.quantized.images import StoredConv2d, arguments, replaced


class QuantizedConv2d(StoredConv2d):
    """torch.nn.Conv2d with its kernel in `bits` bits, one float16 scale for each `group` numbers of an output channel.

    This saves bytes of the file only. The runtime expands the kernel to float32 when it loads the file: in memory, and
    in time, it is a dense layer. The kernel is not trained.

    Shapes:
        codes   (M, G, group * bits / 8) uint8, packed as in packing.py, G groups of C / groups * kh * kw numbers
        scales  (M, G) float16              bias    (M,) or None
        x       (B, C, h, w) or (C, h, w)   y       (B, M, h', w') or (M, h', w')

    Raises:
        ShapeError: a size, stride, padding, dilation or number of groups that torch.nn.Conv2d does not support.
        UsageError: bits other than 2, 4 or 8, or a group other than 16, 32, 64, 128 or 256.
    """

    codes: Tensor
    scales: Tensor

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
        bits: int = 8,
        group: int = 32,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device, dtype)
        self.bits, self.group = packing.check_storage(type(self).__name__, bits, group)
        shape = self.out_channels, -(-self.patch // self.group)
        self._store(device, dtype, **packing.buffers(shape, self.bits, self.group, device))
        self.reset_parameters()

    def stored_numbers(self) -> int:
        return packing.numbers(self.codes, self.scales, self.bits)

    @classmethod
    def from_fit(cls, fit: QuantizedFit, like: nn.Module) -> "QuantizedConv2d":
        """Returns the layer of a fit of the kernel as a matrix (M, C / groups * kh * kw).

        `like` is the torch.nn.Conv2d that was fitted. Its dtype, device, mode and requires_grad are kept.

        Raises:
            UsageError: a fit with a rotation or a correction, or a padding mode other than zeros.
        """
        own = arguments(cls, like)
        if fit.seed is not None or fit.up.size:
            raise UsageError("QuantizedConv2d has no rotation and no correction. Fit with seed=None and rank=0.")
        layer = cls(bias=fit.bias is not None, bits=fit.bits, group=fit.group, **own)
        packing.load(layer.codes, layer.scales, fit.codes, fit.scales, layer.bits, layer.group)
        packing.load_bias(layer.bias, fit.bias)
        replaced(layer, like)
        return layer

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, *, bits: int = 8, group: int = 32) -> "QuantizedConv2d":
        """Returns the layer with each number of the kernel of `conv` rounded to the nearest code.

        The group is smaller if fewer numbers fill it.

        Raises:
            UsageError: a padding mode other than zeros, or other bits or groups.
        """
        arguments(cls, conv)
        bits, group = packing.check_storage(cls.__name__, bits, group)
        return cls.from_fit(packing.nearest(conv.weight.flatten(1), conv.bias, bits, group), conv)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bits={self.bits}, group={self.group}"

    def _kernel(self, dtype: torch.dtype) -> Tensor:
        rows = packing.values(self.codes, self.scales, self.bits, dtype)[:, : self.patch]
        return rows.reshape(self.kernel_shape)

    def _draw(self, bound: float) -> None:
        packing.draw(self.codes, self.scales, self.bits, bound)

    def _symbolic(self, x: Tensor, bias: Tensor, attributes: dict[str, Attribute], shape: tuple[int, ...]) -> Tensor:
        attributes |= {"bits": self.bits, "group": self.group}
        return layer_node(self, x, (self.codes, self.scales, bias), attributes, shape, op="QuantizedConv2d")


ENTRIES = (conv("QuantizedConv2d", PAPER, CLAIM, lambda n: QuantizedConv2d(n, n, 3, padding=1)),)
