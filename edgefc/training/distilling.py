"""distil(): trains a student model to compute what a teacher model computes."""

import os
from collections.abc import Callable
from typing import Any

from torch import nn

from edgefc.training.report import DistilReport


def distil(
    student: nn.Module,
    teacher: nn.Module,
    batches: Any,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    lr: float | None = None,
    metric: Callable[[nn.Module], float] | None = None,
    held_out: Any = None,
    folder: str | os.PathLike[str] | None = None,
    amp: bool = False,
    accumulate: int = 1,
    seed: int = 0,
) -> DistilReport:
    """Trains the student in place, on the outputs and hidden states of the teacher."""
    raise NotImplementedError


__all__ = ["distil"]
