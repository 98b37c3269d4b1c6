"""Residual bottlenecks whose two 1x1 convolutions share one matrix. Successive blocks can share it as well.

Source: Koyun, Toreyin, "Do deep neural networks utilize the weight space efficiently?", arXiv 2401.16438,
https://arxiv.org/abs/2401.16438.

From the paper, according to secondary sources that agree: y = W^T G(W x) + x. W is a 1x1 convolution to fewer channels,
W^T expands again, and G = norm, ReLU, 3x3 convolution, norm, ReLU. Successive blocks of a stage share W, and each has
its own G.

Our reconstructions: the initialisation, which is the usual one of a ResNet (Kaiming normal, fan out); only the sum
follows W^T, as in the formula. It is not known whether the paper normalises there.

Symbols: C channels, w width.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common.entry import Entry
from edgefc.layers.common.onnx_node import check_floating, is_size, layer_node
from edgefc.layers.tied import CLAIM, PAPER

_PARTS = ("conv1", "bn1", "conv2", "bn2", "conv3")
"""The modules of a torchvision bottleneck, without bn3, which the formula does not contain."""


class TiedBottleneck(nn.Module):
    """A sequence of blocks y = W^T G(W x) + x. All blocks share W, and each has its own G.

    The layer stores C w + blocks (9 w^2 + 4 w) trained parameters: 3,807,232 for 1024 to 256 channels and six blocks;
    bottlenecks with separate convolutions store 6,690,816. The first block of a ResNet stage has another number of
    input channels. It keeps its own reduction and is not part of this layer.

    Shapes:
        weight  (w, C, 1)   the layout of nn.Conv1d over pixels, in which runtimes keep one copy for both uses
        blocks  for each block, the norms and the 3x3 convolution of G
        x       (N, C, height, width)       y   the same

    Raises:
        ShapeError: a size below 1.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        blocks: int = 1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not all(map(is_size, (channels, width, blocks))):
            raise ShapeError(
                f"TiedBottleneck does not support channels={channels!r}, width={width!r}, blocks={blocks!r}. "
                "Choose integers from 1 to 2**31 - 1."
            )
        self.channels, self.width = int(channels), int(width)
        self.weight = nn.Parameter(torch.empty(self.width, self.channels, 1, device=device, dtype=dtype))
        made = (_Block(self.channels, self.width, device, dtype) for _ in range(int(blocks)))
        self.blocks = nn.ModuleList(made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws W and the 3x3 kernels from N(0, 2 / fan out), with fan out w and 9 w. Norms keep torch's defaults.

        The second use of W then gives unit variance after a norm and a ReLU.
        """
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        for block in self._each():
            block.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        for block in self.blocks:
            x = block(x, self.weight)
        return x

    @torch.no_grad()
    def dense(self) -> nn.Sequential:
        """Returns equivalent blocks with two separate 1x1 convolutions, which store W and W^T."""
        return nn.Sequential(*(block.dense(self.weight) for block in self._each())).train(self.training)

    @classmethod
    @torch.no_grad()
    def from_bottlenecks(cls, *bottlenecks: Any) -> "TiedBottleneck":
        """Returns one layer for successive trained blocks with the module names of torchvision: conv1, bn1, conv2, bn2,
        conv3 and optionally bn3.

        W is nearest to all 1x1 convolutions in the Frobenius norm: the mean of the reductions and of the transposed
        expansions. If there is a bn3, its scale is applied to the expansion. G is copied. The shift of bn3 and the ReLU
        after the sum are not part of the formula and are dropped. The result is a starting point for training, not an
        equivalent layer.

        Raises:
            UsageError: no blocks, or a block without these modules.
            ShapeError: blocks of different shapes, or other convolutions than 1x1, 3x3, 1x1 that keep the image size.
        """
        if not bottlenecks or not all(map(_has_parts, bottlenecks)):
            raise UsageError(
                f"TiedBottleneck expects blocks with {', '.join(_PARTS)}, in which convolutions have no bias and norms "
                f"are nn.BatchNorm2d, got {', '.join(type(block).__name__ for block in bottlenecks) or 'no blocks'}. "
                "Pass blocks of a ResNet."
            )
        width, channels = bottlenecks[0].conv1.weight.shape[:2]
        for block in bottlenecks:
            _check_alike(block, channels, width)
        like = bottlenecks[0].conv1.weight
        layer = cls(channels, width, len(bottlenecks), device=like.device, dtype=like.dtype)
        kernels = []
        for mine, theirs in zip(layer._each(), bottlenecks, strict=True):
            expand = theirs.conv3.weight.double()[:, :, 0]
            if getattr(theirs, "bn3", None) is not None:
                spread = (theirs.bn3.running_var.double() + theirs.bn3.eps).sqrt()
                expand = expand * (theirs.bn3.weight.double() / spread)[:, None, None]
            kernels += [theirs.conv1.weight.double()[..., 0], expand.transpose(0, 1)]
            mine.norm_in, mine.conv, mine.norm_out = map(copy.deepcopy, (theirs.bn1, theirs.conv2, theirs.bn2))
        layer.weight.copy_(torch.stack(kernels).mean(0))
        return layer.train(bottlenecks[0].training)

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per pixel: blocks (2 C w + 9 w^2). Sharing W does not reduce them."""
        return len(self.blocks) * (2 * self.channels * self.width + 9 * self.width**2)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, width={self.width}, blocks={len(self.blocks)}"

    def _each(self) -> "Iterator[_Block]":
        return (block for block in self.blocks if isinstance(block, _Block))

    def _check(self, x: Tensor) -> None:
        check_floating(self, x)
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ShapeError(
                f"TiedBottleneck expects inputs of shape (N, {self.channels}, height, width), got {tuple(x.shape)}."
            )


class _Block(nn.Module):
    """One block: it owns G, and its methods take W as an argument."""

    def __init__(self, channels: int, width: int, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.channels, self.width = channels, width
        self.norm_in = nn.BatchNorm2d(width, device=device, dtype=dtype)
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False, device=device, dtype=dtype)
        self.norm_out = nn.BatchNorm2d(width, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.norm_in.reset_parameters()
        self.norm_out.reset_parameters()

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x, weight)
        kernel = weight[..., None]  # (w, C, 1, 1); conv_transpose2d reads the axes as (inputs, outputs)
        inner = nn.functional.relu(self.norm_in(nn.functional.conv2d(x, kernel)))
        inner = nn.functional.relu(self.norm_out(self.conv(inner)))
        return nn.functional.conv_transpose2d(inner, kernel) + x

    def dense(self, weight: Tensor) -> nn.Module:
        reduce, expand = (
            nn.Conv2d(n, m, 1, bias=False, device=weight.device, dtype=weight.dtype)
            for n, m in ((self.channels, self.width), (self.width, self.channels))
        )
        reduce.weight.copy_(weight[..., None])
        expand.weight.copy_(weight[..., None].transpose(0, 1))
        norm_in, conv, norm_out = (copy.deepcopy(module) for module in (self.norm_in, self.conv, self.norm_out))
        return _Residual(reduce, norm_in, nn.ReLU(), conv, norm_out, nn.ReLU(), expand)

    def _symbolic(self, x: Tensor, weight: Tensor) -> Tensor:
        weights = (weight, *_norm_tensors(self.norm_in), _kernel(self.conv, self.width), *_norm_tensors(self.norm_out))
        attributes = {
            "channels": self.channels,
            "width": self.width,
            "epsilon_in": self.norm_in.eps,
            "epsilon_out": self.norm_out.eps,
        }
        return layer_node(self, x, weights, attributes, x.shape, op="TiedBottleneck")


class _Residual(nn.Sequential):
    """Adds the input x to the result of the modules."""

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for module in self:
            y = module(y)
        return y + x


def _has_parts(block: Any) -> bool:
    parts = [getattr(block, name, None) for name in _PARTS]
    convolutions = all(isinstance(part, nn.Conv2d) and part.bias is None for part in parts[::2])
    return convolutions and all(
        isinstance(n, nn.BatchNorm2d) and n.affine and n.track_running_stats for n in parts[1::2]
    )


def _check_alike(block: Any, channels: int, width: int) -> None:
    shapes = [tuple(conv.weight.shape) for conv in (block.conv1, block.conv2, block.conv3)]
    expected = [(width, channels, 1, 1), (width, width, 3, 3), (channels, width, 1, 1)]
    strides = {conv.stride for conv in (block.conv1, block.conv2, block.conv3)}
    if shapes != expected or strides != {(1, 1)} or block.conv2.padding != (1, 1) or block.conv2.dilation != (1, 1):
        raise ShapeError(
            f"TiedBottleneck cannot share one matrix among convolutions of shapes {shapes} with strides "
            f"{sorted(strides)}: the first block has {channels} channels and width {width}. Omit the first block of a "
            "stage, and blocks with groups or dilation."
        )


def _kernel(conv: nn.Module, width: int) -> Tensor:
    """Returns the weight of the inner convolution. Raises a UsageError if the ONNX node cannot represent it."""
    plain = nn.Conv2d(width, width, 3, padding=1, bias=False, device="meta")
    given, expected = (str(module.extra_repr()) for module in (conv, plain))
    if not isinstance(conv, nn.Conv2d) or given != expected:
        raise UsageError(
            f"TiedBottleneck cannot export {type(conv).__name__}({given}) as its inner convolution. Use {plain}."
        )
    return conv.weight


def _norm_tensors(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the tensors of a norm in the order of ONNX: scale, shift, mean, variance."""
    if norm.running_mean is None or norm.running_var is None:
        raise UsageError(
            "TiedBottleneck cannot export a norm without running statistics. Use norms with track_running_stats=True."
        )
    return norm.weight, norm.bias, norm.running_mean, norm.running_var


def _dense(n: int) -> nn.Module:
    w = max(n // 4, 1)
    return nn.Sequential(
        nn.Conv2d(n, w, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
        nn.Conv2d(w, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
        nn.Conv2d(w, n, 1, bias=False),
    )  # fmt: skip


ENTRIES = (
    Entry(
        "TiedBottleneck",
        PAPER,
        "256 channels, 64 inside",
        256,
        lambda n: TiedBottleneck(n, max(n // 4, 1)),
        _dense,
        CLAIM,
        "tied-resnet",
        example=lambda n: torch.randn(2, n, 8, 8),
    ),
)
