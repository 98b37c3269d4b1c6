"""Between layers and the fits of edgefc.fitting: what a fit reads, and a layer with the values of a fit."""

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError
from edgefc.fitting.fitted import Array, Fitted
from edgefc.layers.common.onnx_node import check_finite
from edgefc.layers.common.trained import TrainedLinear, trained_linear

Layer = TypeVar("Layer", bound=nn.Module)


def array(values: Tensor) -> Array:
    """Returns the values in float64, for edgefc.fitting."""
    result: Array = values.detach().double().cpu().numpy()
    return result


def tensor(values: Array, device: torch.device) -> Tensor:
    """Returns values of edgefc.fitting in float64 on a device."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def arrays(trained: TrainedLinear) -> tuple[Array, Array | None]:
    """Returns the weight (m, n) and the bias (m,) or None, in float64.

    Raises:
        UsageError: the weight has NaN or infinite values.
    """
    check_finite(trained.weight)
    return array(trained.weight), None if trained.bias is None else array(trained.bias)


class FromFit:
    """Base class of linear layers that can be made from a fit."""

    @staticmethod
    def _settings(fit: Any) -> dict[str, Any]:
        """Returns the keyword arguments of the layer that a fit determines."""
        raise NotImplementedError  # each layer defines it; nn.Module does not support abstract methods

    @classmethod
    @torch.no_grad()
    def from_fit(cls: type[Any], fit: Any, like: nn.Module) -> Any:
        """Returns the layer of a fit of edgefc.fitting. `like` is the trained layer that was fitted; its dtype, device,
        mode and requires_grad are kept.

        Raises:
            ShapeError: the fit and `like` have different sizes.
            UsageError: `like` is another kind of module.
        """
        trained = trained_linear(cls, like)
        return filled(sized(cls, trained, fit.bias is not None, **cls._settings(fit)), fit, trained)


def sized(cls: type[Layer], trained: TrainedLinear, bias: bool, **settings: Any) -> Layer:
    """Returns a new layer with the sizes, dtype and device of a trained one."""
    weight = trained.weight
    return cls(trained.in_features, trained.out_features, bias, **settings, device=weight.device, dtype=weight.dtype)


@torch.no_grad()
def filled(layer: Layer, fit: Fitted, trained: TrainedLinear) -> Layer:
    """Copies each array of the fit to the parameter with its name. Copies the mode and requires_grad of the trained
    layer too.

    Raises:
        ShapeError: the fit is of another size, or an array does not have the shape of its parameter.
    """
    for name in ("in_features", "out_features"):
        size, fitted = getattr(trained, name), getattr(fit, name, None)
        if fitted not in (None, size):
            raise ShapeError(
                f"the fit has {name}={fitted}, and the trained layer has {name}={size}. Pass the layer that was fitted."
            )
    for name, parameter in layer.named_parameters():
        values = tensor(getattr(fit, name), parameter.device)
        if values.shape != parameter.shape:
            raise ShapeError(
                f"the fit has {name} of shape {tuple(values.shape)}, and the {type(layer).__name__} in the place of "
                f"the trained layer has {tuple(parameter.shape)}. Pass the layer that was fitted."
            )
        parameter.copy_(values)
    return trained.copy_flags_to(layer)
