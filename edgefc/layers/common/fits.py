"""Between layers and the fits of edgefc.fitting: what a fit reads, and a layer with the values of a fit."""

from typing import TypeVar

import torch
from torch import nn

from edgefc.errors import ShapeError
from edgefc.fitting.fitted import Array, Fitted
from edgefc.layers.common.trained import TrainedLinear

Layer = TypeVar("Layer", bound=nn.Module)


def arrays(trained: TrainedLinear) -> tuple[Array, Array | None]:
    """Returns the weight (m, n) and the bias (m,) or None, in float64."""
    bias = None if trained.bias is None else trained.bias.double().cpu().numpy()
    return trained.weight.double().cpu().numpy(), bias


@torch.no_grad()
def filled(layer: Layer, fit: Fitted, trained: TrainedLinear) -> Layer:
    """Copies each array of the fit to the parameter with its name. Copies the mode and requires_grad of the trained
    layer too.

    Raises:
        ShapeError: an array does not have the shape of its parameter.
    """
    for name, parameter in layer.named_parameters():
        values = torch.from_numpy(getattr(fit, name))
        if values.shape != parameter.shape:
            raise ShapeError(
                f"the fit has {name} of shape {tuple(values.shape)}, and the {type(layer).__name__} in the place of "
                f"the trained layer has {tuple(parameter.shape)}. Pass the layer that was fitted."
            )
        parameter.copy_(values)
    return trained.replaced_by(layer)
