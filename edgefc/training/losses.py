"""What is minimised, and what decides which state of the student is the best.

Both compare vectors along the last axis with those of the teacher, and do not depend on their scale. Padding is left
out before (teacher.py).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

Outputs = Mapping[str, Tensor]

HIDDEN = 0.5
"""The weight of the modules' outputs in the loss. The weight of the outputs of the model is 1."""


def training_loss(student: Outputs, teacher: Outputs, hidden: set[str]) -> Tensor:
    """Relative squared error and 1 - cosine: the mean over the outputs, plus HIDDEN times that over the hidden states.

    Shapes:
        each output  (..., D)  ->  loss ()
    """
    outer, inner = (
        [_difference(student[name], each) for name, each in teacher.items() if (name in hidden) == within]
        for within in (False, True)
    )
    loss = torch.stack(outer).mean()
    return loss + HIDDEN * torch.stack(inner).mean() if inner else loss


def _difference(new: Tensor, old: Tensor) -> Tensor:
    new, old = new.float(), old.float()
    error = (new - old).square().sum() / old.square().sum().clamp_min(1e-30)
    return error + (1 - cosine_similarity(new, old, -1)).mean() if is_vectors(old) else error


def is_vectors(output: Tensor) -> bool:
    return output.ndim > 1 and output.shape[-1] > 1


class HeldOut:
    """The loss on held-out batches.

    For each output there are two sums: of 1 - cosine and of vectors, or of the squared error and of squares.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._sums = [0.0] * (2 * len(names))

    def add(self, student: Outputs, teacher: Outputs) -> None:
        for index, name in enumerate(self._names):
            new, old = student[name].double().cpu(), teacher[name].double().cpu()
            if is_vectors(old):
                rows = cosine_similarity(new, old, -1)
                parts = [float((1 - rows).sum()), float(rows.numel())]
            else:
                parts = [float((new - old).square().sum()), float(old.square().sum())]
            for place, part in enumerate(parts):
                self._sums[2 * index + place] += part

    def losses(self, totals: Callable[[Sequence[float]], Sequence[float]]) -> list[float]:
        """Returns the loss of each output that there is. `totals` adds sums over all ranks."""
        sums = totals(self._sums)
        pairs = zip(sums[::2], sums[1::2], strict=True)
        return [difference / whole for difference, whole in pairs if whole]
