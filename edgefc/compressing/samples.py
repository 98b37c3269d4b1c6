"""Divides the calibration data of a torch model."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from edgefc.choosing.division import divide
from edgefc.replacing.statistics import Batch, batches_of


@dataclass(frozen=True)
class Samples:
    """The batches for the fits, for choosing, and for the figures of the report.

    Attributes:
        separate   whether the held-out batches are used for nothing else
    """

    fitting: Sequence[Batch]
    choosing: Sequence[Batch]
    held_out: Sequence[Batch]
    separate: bool


def samples_of(calibration: object) -> Samples:
    """Divides the data.

    Raises:
        UsageError: not batches, or none.
    """
    batches = batches_of(calibration)
    parts = divide(len(batches), _size(batches[0]))
    fitting, choosing, held = ([batches[at] for at in part] for part in (parts.fitting, parts.choosing, parts.held_out))
    return Samples(fitting, choosing, held, parts.separate)


def _size(batch: Batch) -> int:
    """The samples in a batch."""
    values = batch.values() if hasattr(batch, "keys") else batch if isinstance(batch, tuple | list) else [batch]
    sizes = [len(each) for each in values if isinstance(each, Tensor) and each.ndim]
    return sizes[0] if sizes else 1
