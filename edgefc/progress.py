"""What long work shows on a terminal, and nothing elsewhere: a bar of steps or bytes, or the seconds so far."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

from edgefc.screen import Stderr, err, visible

_EVERY_S, _AFTER_S = 0.5, 1.0
_STDERR = Stderr()

Told = Callable[[int, int], None]  # bytes that have arrived, and of how many
Stage = Callable[[str], None]
Item = TypeVar("Item")


class Bar(tqdm):  # type: ignore[misc]
    """tqdm on stderr, if that is a terminal (disable=False: always). Its texts can come from files and devices."""

    def __init__(self, items: Iterable[Any] | None = None, *, disable: bool | None = None, **options: Any) -> None:
        super().__init__(items, file=_STDERR, disable=disable, **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = super().format_dict
        if self.disable:
            return found
        room = _STDERR.columns()
        texts = {name: visible(found[name] or "", _STDERR.encoding) for name in ("prefix", "postfix")}
        # A line that fills a terminal may wrap, so one column stays free.
        return {**found, **texts, "ncols": found["ncols"] or (max(1, room - 1) if room else None)}


def note(*lines: str) -> None:
    """Print lines on stderr, above the bars that stand there."""
    with Bar.external_write_mode(_STDERR):
        err(*lines)


def steps(items: Iterable[Item], what: str) -> Iterator[Item]:
    """The same items, with a bar that appears after a second."""
    bar: Iterator[Item] = iter(Bar(items, desc=what, delay=_AFTER_S, leave=False))
    return bar


@contextmanager
def transfer(what: str) -> Iterator[Told]:
    """A bar of bytes, over all files that are transferred within it."""
    with Bar(desc=what, unit="B", unit_scale=True, miniters=1, leave=False) as bar:
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
    with Bar(desc=what, bar_format="{desc}: {elapsed}", leave=False) as bar:

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


def _tick(bar: Bar, ended: threading.Event) -> None:
    while not ended.wait(_EVERY_S):
        bar.refresh()
