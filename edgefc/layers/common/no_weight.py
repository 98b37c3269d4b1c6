"""`weight` of layers that store no dense matrix: a model may ask for its dtype and shape, and not compute with it.

torch's nn.TransformerEncoderLayer and T5 read the weight of a linear layer beside calling it. torch looks for
__torch_function__ there, and then leaves its fused kernels, which would pass the layer by.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from edgefc.errors import UsageError


class NoWeight:
    """What stands for the dense matrix of a structured layer: its shape (m, n), dtype and device, and no numbers."""

    def __init__(self, layer: nn.Module, out_features: int, in_features: int) -> None:
        tensors = (each for each in (*layer.parameters(), *layer.buffers()) if each.is_floating_point())
        stored = next(tensors, torch.empty(0))
        self.shape, self.dtype, self.device = torch.Size((out_features, in_features)), stored.dtype, stored.device
        self.requires_grad = False

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        raise UsageError(
            f"{getattr(func, '__name__', func)} was given the weight of a structured layer, which stores no dense "
            "matrix. Call the layer itself, or take layer.dense(); in the place of nn.MultiheadAttention use "
            "StructuredAttention."
        )


def no_weight(layer: Any) -> NoWeight:
    """The getter of the `weight` of a layer with in_features and out_features."""
    return NoWeight(layer, layer.out_features, layer.in_features)


def not_fused(layer: nn.Module, args: Any) -> None:
    """A hook without effect, for a layer whose `weight` is another matrix than the dense one.

    nn.TransformerEncoderLayer uses no fused kernel where a module in it has a hook.
    """
