"""Divides the calibration data: batches for the fits, for choosing, and for the figures of the report."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from edgefc.replacing.statistics import Batch, batches_of

_HELD_OUT = 10
"""One batch of this many is held out."""
_CHOOSING = 64
"""The samples for choosing. More of them make a search longer, and hardly change its plans."""


@dataclass(frozen=True)
class Samples:
    """The batches for each purpose. With one batch they are the same, with two the last one is for choosing too."""

    fitting: Sequence[Batch]
    choosing: Sequence[Batch]
    held_out: Sequence[Batch]

    @property
    def separate(self) -> bool:
        """Whether the held-out batches were used for nothing else."""
        return not any(each is other for each in self.held_out for other in (*self.fitting, *self.choosing))


def samples_of(calibration: object) -> Samples:
    """Divides the data. The batches of each part come from all of the data, which may be sorted.

    Raises:
        UsageError: not batches, or none.
    """
    batches = batches_of(calibration)
    if len(batches) < 3:
        return Samples(batches[:-1] or batches, batches[-1:], batches[-1:])
    held = _spread(len(batches), max(1, len(batches) // _HELD_OUT))
    rest = [each for at, each in enumerate(batches) if at not in held]
    wanted = -(-_CHOOSING // max(1, _size(batches[0])))
    chosen = _spread(len(rest), max(1, min(wanted, len(rest) // 3)))
    return Samples(
        [each for at, each in enumerate(rest) if at not in chosen],
        [rest[at] for at in sorted(chosen)],
        [batches[at] for at in sorted(held)],
    )


def _spread(count: int, wanted: int) -> set[int]:
    """The indices of `wanted` of `count` batches, at equal distances, with the last one."""
    return {(index + 1) * count // wanted - 1 for index in range(wanted)}


def _size(batch: Batch) -> int:
    """The samples in a batch."""
    values = batch.values() if hasattr(batch, "keys") else batch if isinstance(batch, tuple | list) else [batch]
    sizes = [len(each) for each in values if isinstance(each, Tensor) and each.ndim]
    return sizes[0] if sizes else 1
