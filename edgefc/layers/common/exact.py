"""Arithmetic without rounding errors, such as code times scale.

    with exact():
        numbers = codes * scales

edgefc verify adds rounding errors to the operations of a model, except to those within such a block.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class _State:
    active = False


@contextmanager
def exact() -> Iterator[None]:
    """Marks the operations of the block as exact."""
    _State.active = True
    try:
        yield
    finally:
        _State.active = False


def is_exact() -> bool:
    """Whether this is called within such a block."""
    return _State.active
