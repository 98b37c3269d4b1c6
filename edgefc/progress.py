"""Progress display on a terminal: a bar of steps or bytes, or the elapsed seconds. Nothing is shown elsewhere."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

from edgefc.screen import Stderr, err, visible

_EVERY_S, _AFTER_S = 0.5, 1.0
_STDERR = Stderr()

OnBytes = Callable[[int, int], None]  # called with the bytes of a file transferred so far, and the file's size
Told = OnBytes  # the old name
Stage = Callable[[str], None]
Portion = Callable[[float, str], None]
Item = TypeVar("Item")


class Bar(tqdm):  # type: ignore[misc]
    """tqdm on stderr. By default it shows only on a terminal; disable=False shows it always.

    Its texts are escaped, because they may come from files and devices.
    """

    def __init__(self, items: Iterable[Any] | None = None, *, disable: bool | None = None, **options: Any) -> None:
        super().__init__(items, file=_STDERR, disable=disable, **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = super().format_dict
        if self.disable:
            return values
        columns = _STDERR.columns()
        texts = {name: visible(values[name] or "", _STDERR.encoding) for name in ("prefix", "postfix")}
        # A line that fills the terminal may wrap, so one column stays free.
        return {**values, **texts, "ncols": values["ncols"] or (max(1, columns - 1) if columns else None)}


def note(*lines: str) -> None:
    """Print lines on stderr, above the bars that are shown."""
    with Bar.external_write_mode(_STDERR):
        err(*lines)


def steps(items: Iterable[Item], what: str) -> Iterator[Item]:
    """Iterate over the items. A bar appears after one second."""
    bar: Iterator[Item] = iter(Bar(items, desc=what, delay=_AFTER_S, leave=False))
    return bar


@contextmanager
def transfer(what: str) -> Iterator[OnBytes]:
    """Show one bar of bytes for all files that are transferred within the block."""
    with Bar(desc=what, unit="B", unit_scale=True, miniters=1, leave=False) as bar:
        complete = 0  # bytes of the files that are complete

        def on_bytes(transferred: int, size: int) -> None:
            nonlocal complete
            bar.total = complete + size
            bar.update(complete + transferred - bar.n)
            complete += size if transferred == size else 0

        yield on_bytes


@contextmanager
def portion(what: str) -> Iterator[Portion]:
    """Show a bar of work whose done part is known, with the time left.

    Yields a function that takes the done part, from 0 to 1, and a text to show.
    """
    form = "{desc}: {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left{postfix}"
    with Bar(desc=what, total=1.0, bar_format=form, leave=False, delay=_AFTER_S) as bar:

        def show(done: float, text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(done - bar.n)

        yield show


@contextmanager
def elapsed(what: str) -> Iterator[Stage]:
    """Show the elapsed seconds of work of unknown length. Yields a function that sets the name of the current stage."""
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
