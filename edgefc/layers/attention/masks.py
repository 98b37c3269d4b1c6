"""The masks of an attention layer, checked and merged into one that is added to the scores."""

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
    """What to add to scores (N, h, L, S), broadcast to them; None for nothing.

    Shapes:
        query (N, L, .)   key (N, S, .)   value (N, S, .)   padding (N, S)   mask (L, S) or (N h, L, S)

    Masks of bool are true where nothing attends; those of floating point are added.

    Raises:
        ShapeError: tensors that do not fit one another.
        UsageError: masks of whole numbers, or is_causal without a mask.
    """
    _check_tensors(layer, query, key, value)
    (n, length), s = query.shape[:2], key.shape[1]
    wide = (n * heads, length, s)
    name = type(layer).__name__
    if padding is not None and padding.shape != (n, s):
        raise ShapeError(f"{name} takes a key_padding_mask of {(n, s)} here and was given {tuple(padding.shape)}.")
    if mask is not None and mask.shape not in ((length, s), wide):
        raise ShapeError(
            f"{name} takes an attn_mask of {(length, s)} or {wide} here and was given {tuple(mask.shape)}."
        )
    if is_causal and mask is None:
        raise UsageError(f"{name} takes is_causal=True as a hint about attn_mask. Give the attn_mask too.")
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
        f"{type(layer).__name__} cannot attend with query, key and value of shapes {shapes}, batch first. "
        "Give all of them a batch, the same one, or none, and as many keys as values."
    )


def _added(layer: nn.Module, what: str, mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)
    if not mask.is_floating_point():
        raise UsageError(
            f"{type(layer).__name__} takes {what} of bool or floating point and was given {mask.dtype}. "
            "Convert: mask.bool()."
        )
    return mask.to(dtype)
