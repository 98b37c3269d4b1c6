"""Residual bottlenecks whose 1x1 convolutions, down and up, share one matrix, and may share it with their successors.

Source: Koyun, Toreyin, "Do deep neural networks utilize the weight space efficiently?", arXiv 2401.16438,
https://arxiv.org/abs/2401.16438.

From the paper (by agreeing secondary sources): y = W^T G(W x) + x, W a 1x1 convolution to fewer channels, W^T the way
back, G = norm, ReLU, 3x3 convolution, norm, ReLU; successive blocks of a stage share W, each with a G of its own.
Reconstructions of ours: the initialisation, which is the usual one of a ResNet (Kaiming normal, fan out); and that
nothing follows W^T but the sum, as the formula has it: whether the paper normalises there is not known.

Letters: C channels, w width.
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
"""Of a bottleneck of torchvision, without the norm that our formula has no place for."""


class TiedBottleneck(nn.Module):
    """y = W^T G(W x) + x, in as many blocks as asked for, one after the other: one W for all, a G for each.

    Stored are C w + blocks (9 w^2 + 4 w) trained numbers: for 1024 to 256 and six blocks, 3,807,232; bottlenecks with
    convolutions of their own store 6,690,816. The first block of a ResNet's stage, whose inputs have other channels,
    keeps a reduction of its own and is not part of this layer.

    Shapes:
        weight  (w, C, 1)   as nn.Conv1d over pixels holds it: in that form runtimes keep one copy for both uses
        blocks  block by block, the norms and the 3x3 convolution of G
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
                f"TiedBottleneck cannot go from channels={channels!r} to width={width!r} and back in "
                f"blocks={blocks!r}. Choose whole numbers from 1 to 2**31 - 1."
            )
        self.channels, self.width = int(channels), int(width)
        self.weight = nn.Parameter(torch.empty(self.width, self.channels, 1, device=device, dtype=dtype))
        made = (_Block(self.channels, self.width, device, dtype) for _ in range(int(blocks)))
        self.blocks = nn.ModuleList(made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """W and the 3x3 kernels from N(0, 2 / fan out), fan out w and 9 w; norms as torch makes them.

        The second use of W then answers unit variance for what a norm and a ReLU have left.
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
        """The same map, block by block, with two 1x1 convolutions that hold W and W^T as numbers of their own."""
        return nn.Sequential(*(block.dense(self.weight) for block in self._each())).train(self.training)

    @classmethod
    @torch.no_grad()
    def from_bottlenecks(cls, *bottlenecks: Any) -> "TiedBottleneck":
        """One layer for successive trained blocks, named inside as torchvision's: conv1, bn1, conv2, bn2, conv3, bn3.

        W is the nearest to all 1x1 convolutions in the Frobenius norm, the mean of the reductions and of the transposed
        expansions, these scaled as bn3 scales them where there is one; G is copied. What the formula has no place for
        is lost: the shift of bn3 and the ReLU after the sum. That is a start for training, not a copy.

        Raises:
            UsageError: no blocks, or one without these parts.
            ShapeError: blocks that are not alike, or not of 1x1, 3x3, 1x1 convolutions that keep the size.
        """
        if not bottlenecks or not all(map(_has_parts, bottlenecks)):
            raise UsageError(
                f"TiedBottleneck takes over blocks with {', '.join(_PARTS)}, convolutions without a bias and norms of "
                f"nn.BatchNorm2d, and was given {', '.join(type(block).__name__ for block in bottlenecks) or 'none'}. "
                "Give blocks of a ResNet."
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
        """blocks (2 C w + 9 w^2) for each pixel: the sharing saves none."""
        return len(self.blocks) * (2 * self.channels * self.width + 9 * self.width**2)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, width={self.width}, blocks={len(self.blocks)}"

    def _each(self) -> "Iterator[_Block]":
        return (block for block in self.blocks if isinstance(block, _Block))

    def _check(self, x: Tensor) -> None:
        check_floating(self, x)
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ShapeError(
                f"TiedBottleneck takes inputs of {self.channels} channels and was given shape {tuple(x.shape)}. "
                f"Give (N, {self.channels}, height, width)."
            )


class _Block(nn.Module):
    """One block: a G of its own, around it a W that is handed in."""

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
        kernel = weight[..., None]  # (w, C, 1, 1), which conv_transpose2d reads as inputs, outputs
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
        weights = (weight, *_numbers(self.norm_in), _kernel(self.conv, self.width), *_numbers(self.norm_out))
        attributes = {
            "channels": self.channels,
            "width": self.width,
            "epsilon_in": self.norm_in.eps,
            "epsilon_out": self.norm_out.eps,
        }
        return layer_node(self, x, weights, attributes, x.shape, op="TiedBottleneck")


class _Residual(nn.Sequential):
    """x and what the modules make of it."""

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
    wanted = [(width, channels, 1, 1), (width, width, 3, 3), (channels, width, 1, 1)]
    strides = {conv.stride for conv in (block.conv1, block.conv2, block.conv3)}
    if shapes != wanted or strides != {(1, 1)} or block.conv2.padding != (1, 1) or block.conv2.dilation != (1, 1):
        raise ShapeError(
            f"TiedBottleneck cannot share one matrix among convolutions of {shapes} with strides {sorted(strides)}, "
            f"the first block having {channels} channels and width {width}. Leave out the first block of a stage, and "
            "blocks in groups or with dilation."
        )


def _kernel(conv: nn.Module, width: int) -> Tensor:
    """What the inner convolution holds, where it is still one that the node describes."""
    plain = nn.Conv2d(width, width, 3, padding=1, bias=False, device="meta")
    given, wanted = (str(module.extra_repr()) for module in (conv, plain))
    if not isinstance(conv, nn.Conv2d) or given != wanted:
        raise UsageError(
            f"TiedBottleneck cannot export {type(conv).__name__}({given}) as its inner convolution. Give {plain}."
        )
    return conv.weight


def _numbers(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a norm holds, in the order of ONNX: scale, shift, mean, variance."""
    if norm.running_mean is None or norm.running_var is None:
        raise UsageError("TiedBottleneck cannot export a norm without running statistics. Give norms that keep them.")
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
