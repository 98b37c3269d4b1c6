"""Helpers to initialise the weight of an EUGen layer: the mean square of its features, and trained weights."""

import math
from collections.abc import Sequence
from typing import SupportsFloat

import torch
from torch import Tensor

from edgefc.errors import UsageError
from edgefc.layers.common import activations
from edgefc.layers.common.trained import TrainedLinear

_REACH, _STEPS = 8.0, 1001  # grid for the normal density; ten correct digits for smooth functions


def mean_square(activation: str) -> float:
    """Returns E[Phi(z)^2] for standard normal z."""
    z = torch.linspace(-_REACH, _REACH, _STEPS, dtype=torch.float64, device="cpu")
    density = torch.exp(-z.square() / 2)
    return float((activations.activation(activation)(z).square() * density).sum() / density.sum())


def rows(linear: TrainedLinear, *, constant: bool) -> Tensor:
    """Returns the rows w+ = [w ; b ; 1] of a linear layer, float64. b requires a bias, and 1 requires `constant`."""
    parts = [linear.weight.double()]
    if linear.bias is not None:
        parts.append(linear.bias.double()[:, None])
    if constant:
        parts.append(parts[0].new_ones(len(parts[0]), 1))
    return torch.cat(parts, 1)


def polynomial(coefficients: Sequence[SupportsFloat]) -> list[float]:
    """Returns a_0 ... a_k as floats, k >= 1.

    Raises:
        UsageError: fewer than two coefficients, or one that is not finite.
    """
    try:
        numbers = [float(a) for a in coefficients]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        raise UsageError(
            f"from_polynomial() does not support coefficients={coefficients!r}. "
            "Pass at least two finite numbers, a_0, a_1, ..., a_k."
        )
    return numbers
