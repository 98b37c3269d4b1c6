"""What the weight of an EUGen layer starts from: the variance of its features, or the weight of a trained layer."""

import math
from collections.abc import Sequence
from typing import SupportsFloat

import torch
from torch import Tensor

from edgefc.errors import UsageError
from edgefc.layers.common import activations
from edgefc.layers.common.trained import TrainedLinear

_REACH, _STEPS = 8.0, 1001  # a grid over the normal density, good to ten digits for smooth functions


def mean_square(activation: str) -> float:
    """E[Phi(z)^2] of standard normal z."""
    z = torch.linspace(-_REACH, _REACH, _STEPS, dtype=torch.float64, device="cpu")
    density = torch.exp(-z.square() / 2)
    return float((activations.activation(activation)(z).square() * density).sum() / density.sum())


def rows(linear: TrainedLinear, *, constant: bool) -> Tensor:
    """The rows w+ = [w ; b ; 1] of a linear layer, b where it has a bias, 1 where asked for, float64."""
    parts = [linear.weight.double()]
    if linear.bias is not None:
        parts.append(linear.bias.double()[:, None])
    if constant:
        parts.append(parts[0].new_ones(len(parts[0]), 1))
    return torch.cat(parts, 1)


def polynomial(coefficients: Sequence[SupportsFloat]) -> list[float]:
    """a_0 ... a_k as floats, k >= 1.

    Raises:
        UsageError: fewer than two, or one that is not finite.
    """
    try:
        numbers = [float(a) for a in coefficients]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        raise UsageError(
            f"no EUGen layer has the polynomial of coefficients {coefficients!r}. "
            "Give a_0, a_1 and as many more as its order has, all finite."
        )
    return numbers
