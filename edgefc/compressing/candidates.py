"""What each layer can become, unless the user says otherwise."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from edgefc.plan.configurations import Circulant, Configuration, Half, Int2, Int3, Int4, Int8, LowRank, Monarch
from edgefc.replacing.finding import LINEAR, RECURRENT, Target
from edgefc.replacing.likeness import sizes_of

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

_WIDE, _NARROW = 128, 32
"""Groups of 128 would fill up the rows of narrower layers, so these have groups of 32."""


def candidates_of(target: Target, candidates: Sequence[Configuration]) -> list[Configuration]:
    """The candidates with the groups for the width of a layer, each once."""
    narrow = _width(target) < _WIDE
    return list(dict.fromkeys(_grouped(each) if narrow else each for each in candidates))


def _grouped(configuration: Any) -> Configuration:
    grouped: Configuration = configuration
    if getattr(configuration, "group", 0) == _WIDE:
        grouped = dataclasses.replace(configuration, group=_NARROW)
    return grouped


def _width(target: Target) -> int:
    """The numbers in a row that share scales."""
    module: Any = target.module
    if target.kind == LINEAR:
        return sizes_of(module)[0]
    if target.kind == RECURRENT:
        return min(int(module.input_size), int(module.hidden_size))
    return math.prod(module.weight.shape[1:])
