"""What long work shows on a terminal, and nothing elsewhere: a bar of steps or bytes, or the seconds so far."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

_EVERY_S, _AFTER_S = 0.5, 1.0

Told = Callable[[int, int], None]  # bytes that have arrived, and of how many
Stage = Callable[[str], None]
Item = TypeVar("Item")


def steps(items: Iterable[Item], what: str) -> Iterator[Item]:
    """The same items, with a bar that appears after a second."""
    bar: Iterator[Item] = iter(tqdm(items, desc=what, delay=_AFTER_S, leave=False, disable=None))
    return bar


@contextmanager
def transfer(what: str) -> Iterator[Told]:
    """A bar of bytes, over all files that are transferred within it."""
    with tqdm(desc=what, unit="B", unit_scale=True, miniters=1, leave=False, disable=None) as bar:
        before = 0  # bytes of the files that are there

        def told(there: int, size: int) -> None:
            nonlocal before
            bar.total = before + size
            bar.update(before + there - bar.n)
            before += size if there == size else 0

        yield told


@contextmanager
def elapsed(what: str) -> Iterator[Stage]:
    """The seconds so far, for work that does not say how far it is. Yields a function that names its next stage."""
    with tqdm(desc=what, bar_format="{desc}: {elapsed}", leave=False, disable=None) as bar:

        def tell(stage: str) -> None:
            bar.set_description_str(f"{what}: {stage}", refresh=not bar.disable)

        if bar.disable:
            yield tell
            return
        ended = threading.Event()
        ticking = threading.Thread(target=_tick, args=(bar, ended), daemon=True)
        ticking.start()
        try:
            yield tell
        finally:
            ended.set()
            ticking.join()


def _tick(bar: "tqdm[None]", ended: threading.Event) -> None:
    while not ended.wait(_EVERY_S):
        bar.refresh()
