"""The attribute `weight` of layers that store no dense matrix. Models can read its dtype and shape only.

nn.TransformerEncoderLayer of torch and T5 read the weight of a linear layer in addition to calling it. torch checks
the weight for __torch_function__. If it is defined, torch does not use its fused kernels, which would skip the layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from edgefc.errors import UsageError


class NoWeight:
    """A placeholder for the dense weight of a structured layer: shape, dtype and device, without values."""

    def __init__(self, layer: nn.Module, *shape: int) -> None:
        tensors = (each for each in (*layer.parameters(), *layer.buffers()) if each.is_floating_point())
        stored = next(tensors, torch.empty(0))
        self.shape, self.dtype, self.device = torch.Size(shape), stored.dtype, stored.device
        self.requires_grad = False

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        raise UsageError(
            f"{getattr(func, '__name__', func)} cannot use the weight of a structured layer, which stores no dense "
            "matrix. Call the layer itself, or use layer.dense(). Replace nn.MultiheadAttention by "
            "StructuredAttention."
        )


def no_weight(layer: Any) -> NoWeight:
    """The getter of the property `weight`, for layers with in_features and out_features."""
    return NoWeight(layer, layer.out_features, layer.in_features)


def no_kernel(layer: Any) -> NoWeight:
    """The getter of the property `weight`, for convolutions with a kernel_shape. ViT reads its dtype."""
    return NoWeight(layer, *layer.kernel_shape)


def not_fused(layer: nn.Module, args: Any) -> None:
    """A hook without effect, for layers whose `weight` is not the dense matrix.

    nn.TransformerEncoderLayer does not use its fused kernel if one of its modules has a hook.
    """
