"""How a layer shows itself to torch.onnx.export: one edgefc:: node in the place of its forward."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError

DOMAIN_VERSION = 1


Attribute = int | float | str | Sequence[float]


def layer_node(
    layer: nn.Module,
    x: Tensor,
    weights: Sequence[Tensor],
    attributes: Mapping[str, Attribute],
    out_features: int,
) -> Tensor:
    """One node edgefc::<class name>(x, *weights); y is (..., out_features)."""
    result: Tensor = torch.onnx.ops.symbolic(
        f"edgefc::{type(layer).__name__}",
        (x, *weights),
        attrs={name: _signed(value) for name, value in attributes.items()},
        dtype=x.dtype,
        shape=(*x.shape[:-1], out_features),
        version=DOMAIN_VERSION,
    )
    return result


def check_width(layer: nn.Module, x: Tensor, in_features: int) -> None:
    """Refuse inputs whose last axis is not in_features long.

    Raises:
        ShapeError: with both sizes.
    """
    if x.ndim == 0 or x.shape[-1] != in_features:
        raise ShapeError(
            f"{type(layer).__name__} takes inputs of {in_features} features and was given shape {tuple(x.shape)}. "
            f"Make the last axis {in_features} long."
        )


def zero_bias(like: Tensor, out_features: int) -> Tensor:
    """The bias of a layer that has none: the op always takes one."""
    return torch.zeros(out_features, dtype=like.dtype, device=like.device)


def _signed(value: Attribute) -> Attribute:
    """ONNX integers are signed: a 64-bit seed travels in two's complement."""
    return value - 2**64 if isinstance(value, int) and value >= 2**63 else value
