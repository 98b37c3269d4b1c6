"""A bar for fits that take longer than a second, on terminals only."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

_AFTER_S = 1.0

Item = TypeVar("Item")


def progress(steps: Iterable[Item], text: str) -> Iterator[Item]:
    """The same steps. After a second a bar named `text` appears on standard error; it goes when the steps end.

    Nothing is printed where standard error is no terminal.
    """
    bar: Iterator[Item] = iter(tqdm(steps, desc=text, delay=_AFTER_S, leave=False, disable=None))
    return bar
