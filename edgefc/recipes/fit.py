"""The training loop of recipes: Adam for a number of steps, with the learning rate falling to zero on a half cosine."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from edgefc.recipes.data import Part


def fit(
    model: nn.Module,
    rate: float,
    steps: int,
    loss: Callable[[Tensor], Tensor],
    rows: int,
    size: int,
    *,
    fused: bool = False,
    warm: int = 0,
) -> None:
    """Train the model for a number of steps. Each step draws `size` of the indices 0..rows-1 and calls loss(indices).

    fused=True updates all weights in one pass. This is faster for millions of weights and rounds differently. The
    rates of the first `warm` steps are multiplied by 1/warm, 2/warm, ..., 1.
    """
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate, fused=fused)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / max(1, warm)) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    model.train()
    for chosen in draws(rows, size, steps):
        optimiser.zero_grad()
        torch.autograd.backward(loss(chosen))
        optimiser.step()
        schedule.step()
    model.eval()


def fit_classes(
    model: nn.Module, rate: float, steps: int, part: Part, size: int = 64, *, fused: bool = False, warm: int = 0
) -> None:
    """Train the model with the cross-entropy loss on the classes part.y."""

    def loss(chosen: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(part.x[chosen]), part.y[chosen])

    fit(model, rate, steps, loss, len(part.y), size, fused=fused, warm=warm)


def draws(rows: int, size: int, steps: int) -> Iterator[Tensor]:
    """The indices of each step, from torch's random state. A new permutation starts when too few rows are left."""
    size, left = min(size, rows), torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(left) < size:
            left = torch.randperm(rows)
        yield left[:size]
        left = left[size:]


@torch.no_grad()
def accuracy(model: nn.Module, part: Part, size: int = 1000) -> float:
    """The percentage of rows that are classified correctly."""
    model.eval()
    starts = range(0, len(part.y), size)
    right = sum(int((model(part.x[at : at + size]).argmax(1) == part.y[at : at + size]).sum()) for at in starts)
    return 100 * right / len(part.y)
