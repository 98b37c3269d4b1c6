"""Checks the masks of an attention layer and merges them into one additive mask."""

import math

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError, UsageError


def merged_mask(
    layer: nn.Module,
    heads: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    padding: Tensor | None,
    mask: Tensor | None,
    is_causal: bool,
) -> Tensor | None:
    """Returns the mask to add to the scores, broadcastable to (N, h, L, S), or None without masks.

    Shapes:
        query (N, L, .)   key (N, S, .)   value (N, S, .)   padding (N, S)   mask (L, S) or (N h, L, S)

    True in a boolean mask excludes a position. A floating-point mask is added to the scores.

    Raises:
        ShapeError: tensors whose shapes do not match.
        UsageError: a mask of another dtype, or is_causal without a mask.
    """
    _check_tensors(layer, query, key, value)
    (n, length), s = query.shape[:2], key.shape[1]
    wide = (n * heads, length, s)
    name = type(layer).__name__
    if padding is not None and padding.shape != (n, s):
        raise ShapeError(f"{name} expects a key_padding_mask of shape {(n, s)} here, got {tuple(padding.shape)}.")
    if mask is not None and mask.shape not in ((length, s), wide):
        raise ShapeError(f"{name} expects an attn_mask of shape {(length, s)} or {wide} here, got {tuple(mask.shape)}.")
    if is_causal and mask is None:
        raise UsageError(f"{name} uses is_causal=True only as a hint about attn_mask. Pass attn_mask as well.")
    if mask is not None:
        mask = _added(layer, "attn_mask", mask, query.dtype)
        mask = mask if mask.ndim == 2 else mask.reshape(n, heads, length, s)
    if padding is None:
        return mask
    padding = _added(layer, "key_padding_mask", padding, query.dtype)[:, None, None, :]
    return padding if mask is None else mask + padding


def _check_tensors(layer: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> None:
    if (
        query.ndim == key.ndim == value.ndim == 3
        and key.shape[:2] == value.shape[:2]
        and key.shape[0] == query.shape[0]
    ):
        return
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (query, key, value))
    raise ShapeError(
        f"{type(layer).__name__} does not support query, key and value of shapes {shapes} (batch first). "
        "Use the same batch size for all three, or none, and the same number of keys and values."
    )


def _added(layer: nn.Module, what: str, mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)
    if not mask.is_floating_point():
        raise UsageError(
            f"{type(layer).__name__} expects a bool or floating-point {what}, got {mask.dtype}. Convert: mask.bool()."
        )
    return mask.to(dtype)
