"""The loss of a model's outputs, and the user's metric."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from edgefc.errors import EdgefcError, UsageError, describe_error, shortened
from edgefc.replacing.measuring import Outputs, changes
from edgefc.replacing.report import OutputReport
from edgefc.replacing.statistics import evaluating

Metric = Callable[[nn.Module], Any]


def loss_between(before: Sequence[Outputs], after: Sequence[Outputs]) -> float:
    """The loss of the outputs of the same batches: see loss_of().

    Raises:
        UsageError, CheckFailed: as changes().
    """
    return loss_of(changes(before, after, held_out=False))


def loss_of(outputs: Sequence[OutputReport]) -> float:
    """The mean over the outputs of 1 - mean cosine; of the relative squared error for outputs of single numbers."""
    each = [one.error**2 if one.cosine is None else 1 - one.cosine for one in outputs]
    return max(0.0, sum(each) / len(each)) if each else 0.0


def metric_of(metric: Metric, model: nn.Module) -> float:
    """The user's metric of a model in eval mode.

    Raises:
        UsageError: it raises, or returns no finite number.
    """
    try:
        with evaluating(model):
            given = metric(model)
        value = float(given)
    except EdgefcError:
        raise
    except Exception as error:
        raise UsageError(
            f"the metric failed: {describe_error(error)}. It gets the model and returns a number."
        ) from error
    if not math.isfinite(value):
        raise UsageError(f"the metric returned {shortened(repr(given), 60)}. It must return a finite number.")
    return value
