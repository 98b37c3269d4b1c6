"""Reads trained linear layers that a structured layer can replace: torch.nn.Linear and GPT-2's Conv1D."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from edgefc.errors import UsageError
from edgefc.layers.common.effective import effective_tensors

Layer = TypeVar("Layer", bound=nn.Module)


@dataclass(frozen=True)
class TrainedLinear:
    """The effective weight (out, in) and bias (out,) or None of a layer, detached, with its flags.

    Parametrizations, norms and masks are applied to the weight.
    """

    weight: Tensor
    bias: Tensor | None
    weight_takes_gradients: bool
    bias_takes_gradients: bool
    training: bool

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    def copy_flags_to(self, layer: Layer) -> Layer:
        """Copies the training mode and requires_grad to `layer`. Returns `layer`.

        The new bias gets the flag of the old bias. All other parameters get that of the old weight.
        """
        for name, parameter in layer.named_parameters():
            is_bias = name == "bias" and self.bias is not None
            parameter.requires_grad_(self.bias_takes_gradients if is_bias else self.weight_takes_gradients)
        return layer.train(self.training)


def trained_linear(layer: type[nn.Module], given: nn.Module) -> TrainedLinear:
    """Returns the weight and bias of `given`. `layer` is the class that will be made from them.

    Supports torch.nn.Linear, subclasses that inherit its forward, and transformers.pytorch_utils.Conv1D, whose weight
    is stored as (in, out).

    Raises:
        UsageError: another kind of module, an overridden forward, or a weight that is not loaded or not floating point.
    """
    problem = f"{layer.__name__} can be made from a torch.nn.Linear, got {type(given).__name__}"
    kind = _kind(given)
    if kind is None:
        raise UsageError(f"{problem}. Pass the trained layer itself.")
    if type(given).forward is not kind.forward or "forward" in vars(given):
        raise UsageError(f"{problem} with an overridden forward. Merge it into a torch.nn.Linear first.")
    if any(is_lazy(parameter) for parameter in given.parameters()):
        raise UsageError(f"{problem} without a weight. Run it once, so that torch creates the weight.")
    with torch.enable_grad():  # so that requires_grad of a computed weight is correct
        computed = effective_tensors(given)
        weight, bias = (computed.get(name, getattr(given, name)) for name in ("weight", "bias"))
    if weight.is_meta:
        raise UsageError(f"{problem} on the meta device, which stores no values. Load its weights first.")
    if not weight.is_floating_point():
        raise UsageError(f"{problem} with a weight of {weight.dtype}. Convert it to floating point first.")
    oriented = weight if kind is nn.Linear else weight.T
    return TrainedLinear(
        weight=oriented.detach(),
        bias=None if bias is None else bias.detach(),
        weight_takes_gradients=weight.requires_grad,
        bias_takes_gradients=bias is not None and bias.requires_grad,
        training=given.training,
    )


def is_linear(given: object) -> bool:
    """Whether `given` is a torch.nn.Linear, a subclass of it, or a transformers Conv1D."""
    return _kind(given) is not None


def _kind(given: object) -> type[nn.Module] | None:
    """Returns nn.Linear, Conv1D of transformers, or None. Conv1D is recognised by name, to avoid importing it."""
    if isinstance(given, nn.Linear):
        return nn.Linear
    if not isinstance(given, nn.Module):
        return None
    for kind in type(given).__mro__:
        if kind.__name__ == "Conv1D" and kind.__module__.partition(".")[0] == "transformers":
            weight = getattr(given, "weight", None)
            return kind if isinstance(weight, Tensor) and weight.shape[1:] == (getattr(given, "nf", None),) else None
    return None
