"""Training with several processes (torchrun): what all ranks must agree on."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, distributed

from edgefc.replacing.distributed import several, summed


def rank() -> int:
    """The number of this process; 0 without torch.distributed."""
    return distributed.get_rank() if several() else 0


def world() -> int:
    """The number of processes."""
    return distributed.get_world_size() if several() else 1


def agreed(number: float) -> float:
    """Returns the number of rank 0."""
    return float(summed(np.array(number if rank() == 0 else 0.0))) if several() else number


def totals(numbers: Sequence[float]) -> list[float]:
    """Returns the sums over all ranks."""
    return list(map(float, summed(np.array(numbers)))) if several() and numbers else list(numbers)


def gathered(numbers: Sequence[int]) -> list[int]:
    """Returns the numbers of all ranks, of which each may have another count."""
    if not several():
        return list(numbers)
    found: list[list[int]] = [[] for _ in range(world())]
    distributed.all_gather_object(found, list(numbers))
    return [number for each in found for number in each]


def everywhere(truth: bool) -> bool:
    """Whether it is true on all ranks."""
    return totals([float(truth)]) == [float(world())]


def average(parameters: Iterable[Tensor]) -> None:
    """Replaces the gradient of each parameter by its mean over all ranks. A missing gradient counts as zeros."""
    if not several():
        return
    count, waiting = world(), []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad /= count
        waiting.append(distributed.all_reduce(parameter.grad, async_op=True))
    for each in waiting:
        each.wait()
