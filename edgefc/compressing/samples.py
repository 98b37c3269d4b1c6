"""Divides the calibration data of a torch model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
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
    return Samples(repacked(fitting), repacked(choosing), repacked(held), parts.separate)


def repacked(batches: Sequence[Batch]) -> list[Batch]:
    """Batches of samples of similar lengths, so that little of them is padding. The order of samples changes.

    Only if each batch has the arrays (samples, positions) of the first one, with an attention_mask. Others are returned
    as they are.
    """
    if not all(_has_positions(each, batches[0]) for each in batches):
        return list(batches)
    rows = [_cut({name: array[at] for name, array in each.items()}) for each in batches for at in range(_size(each))]
    rows.sort(key=lambda row: len(row["attention_mask"]))
    size = _size(batches[0])
    return [_together(rows[at : at + size]) for at in range(0, len(rows), size)]


def _has_positions(batch: Batch, first: Batch) -> bool:
    if not isinstance(batch, Mapping) or "attention_mask" not in batch or batch.keys() != first.keys():
        return False
    shape = getattr(batch["attention_mask"], "shape", ())
    return len(shape) == 2 and all(isinstance(each, Tensor) and each.shape == shape for each in batch.values())


def _cut(row: dict[str, Tensor]) -> dict[str, Tensor]:
    """A sample without the padding at its end."""
    used = row["attention_mask"].nonzero()
    length = int(used[-1]) + 1 if len(used) else 1
    return {name: array[:length] for name, array in row.items()}


def _together(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A batch, filled up with zeros, which the attention_mask leaves out."""
    names = rows[0]
    return {name: torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True) for name in names}


def _size(batch: Batch) -> int:
    """The samples in a batch."""
    values = batch.values() if hasattr(batch, "keys") else batch if isinstance(batch, tuple | list) else [batch]
    sizes = [len(each) for each in values if isinstance(each, Tensor) and each.ndim]
    return sizes[0] if sizes else 1
