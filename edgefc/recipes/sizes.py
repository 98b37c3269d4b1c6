"""The number of parameters of a model, and the plain model with as many parameters as another."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgefc.layers.common.checkpoint import holds_weights


def numbers(model: nn.Module) -> tuple[int, int]:
    """The number of trained parameters, and the number of weights in the state dict, without seeds."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    held = (value for name, value in model.state_dict().items() if holds_weights(name) and isinstance(value, Tensor))
    return trained, sum(value.numel() for value in held)


def same_size(make: Callable[[int], nn.Module], wanted: int) -> int:
    """The width, from 1, for which the number of parameters of make(width) is nearest to `wanted`.

    Of two equally near widths, the larger one is chosen, in favour of the baseline. The number of parameters must grow
    with the width.
    """
    with torch.random.fork_rng(devices=[]):
        high = 1
        while numbers(make(high))[0] < wanted:
            high *= 2
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if numbers(make(middle))[0] < wanted else (low, middle)
        above = numbers(make(high))[0] - wanted
        return low if low and wanted - numbers(make(low))[0] < above else high
