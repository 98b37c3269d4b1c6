"""The vectors that a convolution multiplies: its input, cut at every position of the kernel."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgefc.rewriting.constants import attribute

Array = NDArray[Any]

_MOST = 1024
"""Patches of one feed that are used: with more, every second, third, ... position."""


def patches(x: Array, node: ir.Node, kernel: Sequence[int]) -> Array:
    """The patches of a Conv with one group, (count, C * prod(kernel)), in the layout of its weight.

    Shapes:
        x (B, C, *sizes)
    """
    axes = len(kernel)
    strides = list(attribute(node, "strides", [1] * axes))
    dilations = list(attribute(node, "dilations", [1] * axes))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    padded = np.pad(x, [(0, 0), (0, 0), *_pads(node, x.shape[2:], reach, strides)])
    if any(size < needed for size, needed in zip(padded.shape[2:], reach, strict=True)):
        return np.zeros((0, x.shape[1] * math.prod(kernel)), x.dtype)
    windows = sliding_window_view(padded, reach, axis=tuple(range(2, 2 + axes)))
    every = [slice(None, None, stride) for stride in strides]
    inside = [slice(None, None, dilation) for dilation in dilations]
    windows = windows[(slice(None), slice(None), *every, *inside)]  # (B, C, *positions, *kernel)
    order = (0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes))
    rows = windows.transpose(order)  # (B, *positions, C, *kernel)
    count = math.prod(rows.shape[: 1 + axes])
    at = np.unravel_index(np.arange(0, count, max(1, count // _MOST)), rows.shape[: 1 + axes])
    result: Array = rows[at].reshape(len(at[0]), -1)
    return result


def _pads(node: ir.Node, sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """The zeros before and after each axis."""
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, reach, strides, strict=True)]
        halves = [(each // 2, each - each // 2) for each in total]
        return halves if auto == "SAME_UPPER" else [(last, first) for first, last in halves]
    pads = attribute(node, "pads", [0] * 2 * len(sizes)) if auto == "NOTSET" else [0] * 2 * len(sizes)
    return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
