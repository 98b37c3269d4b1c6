"""Creates the edgefc:: node that replaces the forward of a layer in torch.onnx.export, and checks layer arguments."""

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
    """Returns the output, of shape `shape`, of one node edgefc::<op>(x, *weights).

    The default of `op` is the name of the class that defines the layer's forward. Subclasses that inherit the forward
    keep that name, including the classes that torch.nn.utils.parametrize creates. The default of `dtype` is x.dtype.
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
    """layer_node() for a layer with several outputs, all of dtype x.dtype."""
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
    """Returns the name of the class that defines the forward of `layer`."""
    return next(kind.__name__ for kind in type(layer).__mro__ if "forward" in vars(kind))


def check_width(layer: nn.Module, x: Tensor, in_features: int) -> None:
    """Checks that x is a floating-point tensor whose last axis has size in_features.

    Raises:
        ShapeError: another size.
        UsageError: not floating point.
    """
    check_floating(layer, x)
    if x.ndim == 0 or x.shape[-1] != in_features:
        raise ShapeError(
            f"{type(layer).__name__} expects inputs of shape (..., {in_features}), got {tuple(x.shape)}. "
            f"Change the size of the last axis to {in_features}."
        )


def check_floating(layer: nn.Module, x: Tensor) -> None:
    """Checks that x is a floating-point tensor and not a nested tensor.

    Raises:
        UsageError: another type or dtype.
    """
    check_tensor(layer, x)
    if x.is_nested:  # nn.TransformerEncoder creates them for the fused kernels of its layers
        raise UsageError(
            f"{type(layer).__name__} does not accept nested tensors. nn.TransformerEncoder creates nested tensors from "
            "padded batches in eval mode: build it with enable_nested_tensor=False, or set "
            "encoder.use_nested_tensor = False."
        )
    if not x.is_floating_point():
        raise UsageError(f"{type(layer).__name__} expects floating-point inputs, got {x.dtype}. Convert: x.float().")


def check_tokens(layer: nn.Module, x: Tensor) -> None:
    """Checks that x is a tensor of tokens, int32 or int64.

    Raises:
        UsageError: another type or dtype.
    """
    check_tensor(layer, x)
    if x.dtype not in (torch.int32, torch.int64):
        raise UsageError(f"{type(layer).__name__} expects int32 or int64 tokens, got {x.dtype}. Convert: x.long().")


def check_padding(layer: nn.Module, padding_idx: int | None, num_embeddings: int) -> int | None:
    """Returns the padding token as a non-negative index. Negative indices count from the end, as in torch.

    Raises:
        UsageError: the index is out of range.
    """
    if padding_idx is None:
        return None
    whole = isinstance(padding_idx, int) and not isinstance(padding_idx, bool)
    if whole and -num_embeddings <= padding_idx < num_embeddings:
        return padding_idx % num_embeddings
    raise UsageError(
        f"{type(layer).__name__} has {num_embeddings} entries, got padding_idx={padding_idx!r}. "
        f"Choose an integer from 0 to {num_embeddings - 1}, or None."
    )


def check_tensor(layer: nn.Module, x: object) -> None:
    """Checks that x is a tensor, and not a numpy array for example.

    Raises:
        UsageError: another type.
    """
    if not isinstance(x, Tensor):
        raise UsageError(
            f"{type(layer).__name__} expects a torch.Tensor, got {type(x).__name__}. Convert: torch.as_tensor(x)."
        )


def sizes(name: str, in_features: int, out_features: int, unit: str = "features") -> tuple[int, int]:
    """Returns both sizes as ints. `unit` completes the argument names in the error message.

    Raises:
        ShapeError: a value that is_size() rejects.
    """
    if is_size(in_features) and is_size(out_features):
        return operator.index(in_features), operator.index(out_features)
    raise ShapeError(
        f"{name} does not support in_{unit}={in_features!r}, out_{unit}={out_features!r}. "
        "Choose integers from 1 to 2**31 - 1."
    )


def is_size(value: object) -> bool:
    """Whether `value` is an integer from 1 to 2**31 - 1, the supported sizes of an axis. Booleans are rejected."""
    if not isinstance(value, SupportsIndex) or isinstance(value, bool):
        return False
    try:
        return 1 <= operator.index(value) < 2**31
    except TypeError:  # arrays and tensors have __index__, which raises unless they hold one integer
        return False


def check_replaced(layer: type[nn.Module], given: object, kind: type[nn.Module]) -> None:
    """Checks that `given` is the kind of torch layer that `layer` can replace.

    Raises:
        UsageError: not an instance of `kind`.
    """
    if not isinstance(given, kind):
        raise UsageError(
            f"{layer.__name__} can be made from a torch.nn.{kind.__name__}, got {type(given).__name__}. "
            "Pass the trained layer itself."
        )


def check_finite(weight: Tensor) -> None:
    """Checks that all values of a trained weight are finite.

    Raises:
        UsageError: NaN or infinite values.
    """
    if not weight.is_meta and not weight.isfinite().all():
        raise UsageError("cannot fit a weight that contains NaN or infinity. Check the weights of the trained layer.")


def check_dropout(name: str, dropout: float) -> float:
    """Returns the dropout probability as a float from 0 to 1.

    Raises:
        UsageError: any other value.
    """
    if isinstance(dropout, int | float) and not isinstance(dropout, bool) and 0 <= dropout <= 1:
        return float(dropout)
    raise UsageError(f"{name} does not support dropout={dropout!r}. Choose a probability from 0 to 1.")


def zero_bias(like: Tensor, out_features: int) -> Tensor:
    """Returns a zero bias, for layers without a bias: the op always has a bias input."""
    return torch.zeros(out_features, dtype=like.dtype, device=like.device)


def _signed_all(attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    return {name: _signed(value) for name, value in attributes.items()}


def _signed(value: Attribute) -> Attribute:
    """Converts a 64-bit seed to two's complement, because ONNX integers are signed."""
    return value - 2**64 if isinstance(value, int) and value >= 2**63 else value
