"""What long work on a device shows on a terminal, and nothing elsewhere: a bar of bytes, or the seconds so far."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

_EVERY_S = 0.5

Told = Callable[[int, int], None]  # bytes that have arrived, and of how many


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
def elapsed(what: str) -> Iterator[None]:
    """The seconds so far, for work that does not say how far it is."""
    with tqdm(desc=what, bar_format="{desc}: {elapsed}", leave=False, disable=None) as bar:
        if bar.disable:
            yield
            return
        ended = threading.Event()
        ticking = threading.Thread(target=_tick, args=(bar, ended), daemon=True)
        ticking.start()
        try:
            yield
        finally:
            ended.set()
            ticking.join()


def _tick(bar: "tqdm[None]", ended: threading.Event) -> None:
    while not ended.wait(_EVERY_S):
        bar.refresh()
