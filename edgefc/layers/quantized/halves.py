"""Weights in float16."""

from typing import Any

import torch
from torch import Tensor

from edgefc.fitting.half import HalfFit, fit_half


def empty(*shape: int, device: torch.device | str | None) -> Tensor:
    """Returns an empty float16 tensor."""
    return torch.empty(*shape, dtype=torch.float16, device=device)


def fit(weight: Tensor, bias: Tensor | None) -> HalfFit:
    """Returns the weight (m, n) rounded to float16.

    Raises:
        UsageError: a weight is larger than 65504.
    """
    rows, addend = (None if each is None else each.detach().double().cpu().numpy() for each in (weight, bias))
    assert rows is not None
    return fit_half(rows, addend)


@torch.no_grad()
def load(layer: Any, fit: HalfFit) -> None:
    """Copies the weight and the bias of a fit."""
    weight, bias = layer.half_weight, getattr(layer, "bias", None)
    weight.copy_(torch.from_numpy(fit.weight).view_as(weight))
    if bias is not None and fit.bias is not None:
        bias.copy_(torch.from_numpy(fit.bias))
