"""What the teacher computes for a batch. It is kept if the batch is seen again."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.replacing.measuring import named, unpadded
from edgefc.replacing.statistics import Batch, call, evaluating, mask_of
from edgefc.training.hidden import recorded

MEMORY = 1 << 30
"""The bytes of kept outputs at most."""

HIDDEN = "hidden:"
"""Prefix of the names of the modules' outputs, which keeps them apart from those of the model."""


class Teacher:
    """The outputs of the teacher and of the chosen modules in it, without padding, by name."""

    def __init__(self, model: nn.Module, hidden: Sequence[str]) -> None:
        self.model, self.hidden = model, tuple(hidden)
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._bytes = 0

    def of(self, batch: Batch, key: int | None) -> dict[str, Tensor]:
        """Returns the outputs for a batch. If it has a key, they may be kept on the CPU and returned again."""
        if key is not None and key in self._kept:
            return self._kept[key]
        with evaluating(self.model):
            found = outputs_of(self.model, batch, self.hidden)
        if key is not None and self._bytes < MEMORY:
            found = {name: each.cpu() for name, each in found.items()}
            self._bytes += sum(each.nbytes for each in found.values())
            self._kept[key] = found
        return found


def outputs_of(
    model: nn.Module, batch: Batch, hidden: Sequence[str] = (), *, gradients: bool = False
) -> dict[str, Tensor]:
    """Runs a model. Returns its outputs, and those of the modules `hidden` in it with a prefix, without padding."""
    mask = mask_of(batch)
    if mask is not None and not bool(mask.any()):
        mask = None
    with recorded(model, hidden) as seen:
        result = call(model, batch, gradients=gradients)
    inner = {HIDDEN + name: seen[name][0] for name in hidden if seen.get(name)}
    found = {name: each for name, each in named(result) if each.ndim}
    return {name: unpadded(each, mask) for name, each in {**found, **inner}.items()}


def check(teacher: dict[str, Tensor], student: dict[str, Tensor]) -> list[str]:
    """Returns the names of the outputs that both have in the same shape.

    Raises:
        UsageError: the models have no outputs in common, or the teacher's are not finite.
    """
    common = [name for name, each in teacher.items() if name in student and student[name].shape == each.shape]
    if not any(not name.startswith(HIDDEN) for name in common):
        shown = [
            ", ".join(f"{name or 'output'} {tuple(each.shape)}" for name, each in every.items() if HIDDEN not in name)
            for every in (student, teacher)
        ]
        raise UsageError(
            f"student and teacher have no output of the same name and shape: {shown[0] or 'none'} and "
            f"{shown[1] or 'none'}. Give the model that edgefc.replace() changed, and a copy from before."
        )
    for name in common:
        if not bool(torch.isfinite(teacher[name]).all()):
            raise UsageError(f"the output {name or 'of the teacher'} of the teacher is not finite. Check the data.")
    return common
