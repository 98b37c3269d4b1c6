"""The batches of training, in an order that depends on the seed alone, and the held-out batches."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from edgefc.errors import UsageError
from edgefc.replacing.statistics import Batch, batches_of

_HELD_OUT = 10
"""One batch of this many is held out."""


class Data:
    """Endless batches.

    A list is shuffled anew in each epoch. What is not a list, such as a DataLoader, is read in its own order.

    Attributes:
        count  batches in an epoch; None until the end of the first epoch of what is not a list
    """

    def __init__(self, batches: Any, seed: int) -> None:
        self._seed = seed
        self._function: Callable[[], Any] | None = None
        self._listed: Sequence[Batch] | None = None
        self.count: int | None = None
        if callable(batches) and (isinstance(batches, type) or not hasattr(batches, "__iter__")):
            self._function = batches
        elif isinstance(batches, list | tuple) or not hasattr(batches, "__iter__") or iter(batches) is batches:
            self._keep(batches_of(batches, "batches"))
        elif isinstance(batches, torch.Tensor | dict | str) or hasattr(batches, "__array__"):
            batches_of(batches, "batches")  # raises
        else:
            self._function = lambda: batches

    def _keep(self, batches: Sequence[Batch]) -> None:
        self._listed, self.count = batches, len(batches)

    def hold_out(self) -> list[Batch]:
        """Takes the last tenth of the batches away, at least one of several, and returns them.

        Raises:
            UsageError: the batches are not a list, so that those of the next epoch may be the same.
        """
        if self._listed is None:
            raise UsageError(
                "batches is not a list, so that no batch of it can be kept apart from training. Pass held_out=, a list "
                "of other batches, or metric=."
            )
        held = list(self._listed[-max(1, len(self._listed) // _HELD_OUT) :])
        self._keep(self._listed[: -len(held)] or self._listed)
        return held

    @property
    def is_listed(self) -> bool:
        return self._listed is not None

    @property
    def content(self) -> Any:
        """What a fingerprint of the data is made of."""
        return list(self._listed) if self._listed is not None else next(self._epoch(0))[0]

    def stream(self, drawn: int) -> Iterator[tuple[Batch, int | None]]:
        """Yields batches for ever, without the first `drawn`, each with a key if it is the same in each epoch.

        Raises:
            UsageError: an epoch without batches, or what is not a batch.
        """
        epoch, skipped = divmod(drawn, self.count) if self.count is not None else (0, drawn)
        while True:
            size = 0
            for batch, key in self._epoch(epoch):
                size += 1
                if skipped:
                    skipped -= 1
                else:
                    yield batch, key
            if not size:
                raise UsageError(f"batches has no batches in epoch {epoch + 1}. Give batches that can be read again.")
            self.count = size
            epoch += 1

    def _epoch(self, number: int) -> Iterator[tuple[Batch, int | None]]:
        seed = (self._seed * 1_000_003 + number) % 2**63
        if self._listed is not None:
            order = torch.randperm(len(self._listed), generator=torch.Generator().manual_seed(seed))
            yield from ((self._listed[index], index) for index in order.tolist())
            return
        assert self._function is not None
        for batch in _opened(self._function(), seed, number):
            batches_of([batch], "batches")
            yield batch, None


def _opened(source: Any, seed: int, epoch: int) -> Iterator[Batch]:
    """The batches of an epoch of a DataLoader or another iterable, whose random order is that of the seed."""
    for owner in (source, getattr(source, "sampler", None)):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        if callable(set_epoch := getattr(owner, "set_epoch", None)):
            set_epoch(epoch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        batches = iter(source)
        first = list(itertools.islice(batches, 1))  # a DataLoader draws its order now
    yield from itertools.chain(first, batches)
