"""Divides calibration data: batches for the fits, for choosing, and for the figures of the report."""

from dataclasses import dataclass

_HELD_OUT = 10
"""One batch of this many is held out."""
_CHOOSING = 64
"""The samples for choosing. More of them make a search longer, and hardly change its plans."""


@dataclass(frozen=True)
class Division:
    """The indices of the batches for each purpose. With one batch they are the same, with two the last one is for
    choosing too."""

    fitting: tuple[int, ...]
    choosing: tuple[int, ...]
    held_out: tuple[int, ...]

    @property
    def separate(self) -> bool:
        """Whether the held-out batches are used for nothing else."""
        return not {*self.held_out} & {*self.fitting, *self.choosing}


def divide(batches: int, size: int) -> Division:
    """Divides batches of `size` samples. The batches of each part come from all of the data, which may be sorted."""
    every = range(batches)
    if batches < 3:
        return Division(tuple(every[:-1] or every), tuple(every[-1:]), tuple(every[-1:]))
    held = _spread(batches, max(1, batches // _HELD_OUT))
    rest = [at for at in every if at not in held]
    wanted = -(-_CHOOSING // max(1, size))
    chosen = {rest[at] for at in _spread(len(rest), max(1, min(wanted, len(rest) // 3)))}
    return Division(tuple(at for at in rest if at not in chosen), tuple(sorted(chosen)), tuple(sorted(held)))


def _spread(count: int, wanted: int) -> set[int]:
    """The indices of `wanted` of `count` batches, at equal distances, with the last one."""
    return {(index + 1) * count // wanted - 1 for index in range(wanted)}
