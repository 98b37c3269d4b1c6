"""What each kind of layer can become, unless the user says otherwise."""

from collections.abc import Sequence

from edgefc.plan.configurations import Circulant, Configuration, Half, Int2, Int3, Int4, Int8, LowRank, Monarch

DEFAULT: tuple[Configuration, ...] = (
    Half(),
    Int8(),
    Int4(),
    Int3(),
    Int2(),
    Int2(group=128),
    LowRank(ratio=2, storage="int8"),
    LowRank(ratio=4, storage="int8"),
    LowRank(ratio=8, storage="int8"),
)
"""Quantised layers, and low ranks in 8 bits. None of them needs training."""

TRAINED: tuple[Configuration, ...] = (Monarch(), Circulant(block=64))
"""Structured layers in addition, for a model that is trained afterwards."""

RIVALS: tuple[Configuration, ...] = (Half(), Int8(), Int4())
"""What every given plan is compared with."""


def candidates_of(given: Sequence[Configuration] | None, minutes: float) -> tuple[Configuration, ...]:
    """The candidates of all layers. Each layer gets those that serve it."""
    if given is not None:
        return tuple(dict.fromkeys(given))
    return DEFAULT if not minutes else (*DEFAULT, *TRAINED)
