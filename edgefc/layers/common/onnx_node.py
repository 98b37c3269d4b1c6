"""How a layer shows itself to torch.onnx.export: one edgefc:: node in the place of its forward."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common.facts import DOMAIN_VERSION

Attribute = int | float | str | Sequence[int] | Sequence[float]


def layer_node(
    layer: nn.Module,
    x: Tensor,
    weights: Sequence[Tensor],
    attributes: Mapping[str, Attribute],
    shape: Sequence[int],
    *,
    op: str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """One node edgefc::<op>(x, *weights) whose output has `shape`.

    Without `op` it is the name of the class that defines the layer's forward: neither that of a subclass which keeps
    the forward, nor the one that torch.nn.utils.parametrize makes. Without `dtype` it is that of x.
    """
    result: Tensor = torch.onnx.ops.symbolic(
        f"edgefc::{op or _class_name(layer)}",
        (x, *weights),
        attrs=_signed_all(attributes),
        dtype=dtype or x.dtype,
        shape=tuple(shape),
        version=DOMAIN_VERSION,
    )
    return result


def layer_nodes(
    layer: nn.Module,
    x: Tensor,
    weights: Sequence[Tensor],
    attributes: Mapping[str, Attribute],
    shapes: Sequence[Sequence[int]],
    *,
    op: str | None = None,
) -> tuple[Tensor, ...]:
    """layer_node() for a layer of several outputs, all of the dtype of x."""
    results: Sequence[Tensor] = torch.onnx.ops.symbolic_multi_out(
        f"edgefc::{op or _class_name(layer)}",
        (x, *weights),
        attrs=_signed_all(attributes),
        dtypes=[x.dtype] * len(shapes),
        shapes=[tuple(shape) for shape in shapes],
        version=DOMAIN_VERSION,
    )
    return tuple(results)


def _class_name(layer: nn.Module) -> str:
    """The name of the class whose forward `layer` runs."""
    return next(kind.__name__ for kind in type(layer).__mro__ if "forward" in vars(kind))


def check_width(layer: nn.Module, x: Tensor, in_features: int) -> None:
    """Refuse inputs whose last axis is not in_features long, and inputs of whole numbers.

    Raises:
        ShapeError: with both sizes.
        UsageError: not floating point.
    """
    check_floating(layer, x)
    if x.ndim == 0 or x.shape[-1] != in_features:
        raise ShapeError(
            f"{type(layer).__name__} takes inputs of {in_features} features and was given shape {tuple(x.shape)}. "
            f"Make the last axis {in_features} long."
        )


def check_floating(layer: nn.Module, x: Tensor) -> None:
    """Refuse inputs that are no tensor, are nested or hold whole numbers.

    Raises:
        UsageError: with the type.
    """
    check_tensor(layer, x)
    if x.is_nested:  # nn.TransformerEncoder makes them for the fused kernels of its layers
        raise UsageError(
            f"{type(layer).__name__} was given a nested tensor, and it takes ordinary ones. nn.TransformerEncoder "
            "makes nested tensors of padded batches in eval mode: build it with enable_nested_tensor=False, or set "
            "encoder.use_nested_tensor = False."
        )
    if not x.is_floating_point():
        raise UsageError(
            f"{type(layer).__name__} takes floating-point inputs and was given {x.dtype}. Convert: x.float()."
        )


def check_tokens(layer: nn.Module, x: Tensor) -> None:
    """Refuse inputs that are no tensor or hold anything but tokens.

    Raises:
        UsageError: with the type.
    """
    check_tensor(layer, x)
    if x.dtype not in (torch.int32, torch.int64):
        raise UsageError(
            f"{type(layer).__name__} takes int32 or int64 tokens and was given {x.dtype}. Convert: x.long()."
        )


def check_padding(layer: nn.Module, padding_idx: int | None, num_embeddings: int) -> int | None:
    """The token that pads, counted from 0: -1 is the last one, as in torch.

    Raises:
        UsageError: no entry among so many.
    """
    if padding_idx is None:
        return None
    whole = isinstance(padding_idx, int) and not isinstance(padding_idx, bool)
    if whole and -num_embeddings <= padding_idx < num_embeddings:
        return padding_idx % num_embeddings
    raise UsageError(
        f"{type(layer).__name__} has no entry padding_idx={padding_idx!r} among {num_embeddings}. "
        "Choose one from 0, or none."
    )


def check_tensor(layer: nn.Module, x: object) -> None:
    """Refuse what is no tensor: arrays above all.

    Raises:
        UsageError: with the type.
    """
    if not isinstance(x, Tensor):
        raise UsageError(
            f"{type(layer).__name__} takes tensors and was given a {type(x).__name__}. Convert: torch.as_tensor(x)."
        )


def sizes(name: str, in_features: int, out_features: int, unit: str = "features") -> tuple[int, int]:
    """Both sizes as plain ints, from anything that is_size() takes. `unit` names them in the error.

    Raises:
        ShapeError: anything else.
    """
    if is_size(in_features) and is_size(out_features):
        return operator.index(in_features), operator.index(out_features)
    raise ShapeError(
        f"{name} cannot map in_{unit}={in_features!r} to out_{unit}={out_features!r}. "
        "Choose whole numbers from 1 to 2**31 - 1."
    )


def is_size(value: object) -> bool:
    """Whether `value` is a whole number from 1 to 2**31 - 1, beyond which no tensor has an axis here; True is none."""
    if not isinstance(value, SupportsIndex) or isinstance(value, bool):
        return False
    try:
        return 1 <= operator.index(value) < 2**31
    except TypeError:  # arrays and tensors have a place for it, and refuse unless they hold one whole number
        return False


def check_replaced(layer: type[nn.Module], given: object, kind: type[nn.Module]) -> None:
    """Refuse what is not the torch layer that `layer` is to stand in for.

    Raises:
        UsageError: anything but a `kind`.
    """
    if not isinstance(given, kind):
        raise UsageError(
            f"{layer.__name__} can be made from a torch.nn.{kind.__name__} and was given a {type(given).__name__}. "
            "Give the trained layer itself."
        )


def check_finite(weight: Tensor) -> None:
    """Refuse a trained weight that nothing can come near to.

    Raises:
        UsageError: numbers that are not finite.
    """
    if not weight.is_meta and not weight.isfinite().all():
        raise UsageError("cannot come near to a weight with numbers that are not finite. Look for them in the layer.")


def check_share(name: str, dropout: float) -> float:
    """A dropout as a float from 0 to 1.

    Raises:
        UsageError: anything else.
    """
    if isinstance(dropout, int | float) and not isinstance(dropout, bool) and 0 <= dropout <= 1:
        return float(dropout)
    raise UsageError(f"{name} cannot drop out with dropout={dropout!r}. Choose a probability from 0 to 1.")


def zero_bias(like: Tensor, out_features: int) -> Tensor:
    """The bias of a layer that has none: the op always takes one."""
    return torch.zeros(out_features, dtype=like.dtype, device=like.device)


def _signed_all(attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    return {name: _signed(value) for name, value in attributes.items()}


def _signed(value: Attribute) -> Attribute:
    """ONNX integers are signed: a 64-bit seed travels in two's complement."""
    return value - 2**64 if isinstance(value, int) and value >= 2**63 else value
