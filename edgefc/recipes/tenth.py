"""The arms of the recipes that train with a tenth of the numbers of a dense model.

dense                 the model of the recipe
FAMILY                the same model in which edgefc.replace(init="new") has put layers of one family. Its setting (rank,
                      blocks, features, terms) is the one with the most numbers that a tenth allows. "x2" is twice the
                      width before the replacement.
narrow dense          the dense model with the largest width that a tenth allows
narrow dense, int8    the dense model with the largest width whose weights take a tenth of the bytes in 8 bits. It is
narrow dense, int4    trained in float32 and rounded afterwards, the same in 4 bits.

Families that do not replace a layer of the model leave it dense: a convolution under LowRank, for example.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.plan.configurations import PRP, Bilinear, Circulant, Configuration, EUGen, Int4, Int8, LowRank, Monarch, Tied
from edgefc.recipes.recipe import Arm
from edgefc.recipes.sizes import numbers
from edgefc.replacing.measuring import bytes_of
from edgefc.replacing.replacing import replace

TENTH = 10
AFTERWARDS: Mapping[str, Configuration] = {"narrow dense, int8": Int8(), "narrow dense, int4": Int4()}
NARROW = "narrow dense"

Make = Callable[[int], nn.Module]  # width -> untrained dense model
Setting = Callable[[int], Configuration]


@dataclass(frozen=True)
class Family:
    """A family. setting: a number -> its configuration. rising: whether a larger number gives more numbers."""

    name: str
    setting: Setting
    rising: bool = True
    widen: float = 1


LOW_RANK = Family("LowRank", lambda quarters: LowRank(ratio=quarters / 4), rising=False)
MONARCH = Family("Monarch", lambda blocks: Monarch(blocks=blocks), rising=False)
CIRCULANT = Family("Circulant", lambda block: Circulant(block=block), rising=False)
PRP_RANK = Family("PRP + rank", lambda rank: PRP(rank=rank))
EUGEN = Family("EUGen", lambda features: EUGen(features=features))
BILINEAR = Family("Bilinear", lambda terms: Bilinear(terms=terms))


def arms(make: Make, width: int, families: Sequence[Family], match: str = "body.*", step: int = 1) -> list[Arm]:
    """The arms of a recipe. Widths are multiples of `step`; `match` names the layers that are replaced."""
    whole = make(width)
    most, most_bytes = numbers(whole)[0] // TENTH, bytes_of(whole) // TENTH

    def narrow(fits: Callable[[nn.Module], bool]) -> int:
        return step * largest(lambda steps: fits(make(step * steps)))

    arms = [Arm("dense", lambda seed: make(width))]
    for family in families:
        wide = step * round(width * family.widen / step)
        name = family.name if family.widen == 1 else f"{family.name} x{family.widen:g}"
        arms.append(Arm(name, partial(_replaced, make, wide, match, _setting(family, make, wide, match, most))))
    if any(isinstance(each, nn.Sequential) and len(each) == 3 for each in whole.modules()) and step > 1:
        tied = narrow(lambda model: numbers(_with(model, "*.pair", Tied()))[0] <= most)
        arms.append(Arm("Tied, narrow", partial(_replaced, make, tied, "*.pair", Tied())))
    arms.append(Arm(NARROW, partial(_dense, make, narrow(lambda model: numbers(model)[0] <= most))))
    for name, stored in AFTERWARDS.items():
        fits = narrow(lambda model, to=stored: bytes_of(_with(model, "*", to)) <= most_bytes)  # type: ignore[misc]
        arms.append(Arm(name, partial(_dense, make, fits)))
    return arms


def stored(model: nn.Module, arm: str, inputs: Tensor) -> float:
    """Rounds the weights of a trained model if the arm says so. Returns the bytes of its numbers in kB."""
    if arm in AFTERWARDS:
        replace(model, {"*": AFTERWARDS[arm]}, calibration=[inputs])
    return bytes_of(model) / 1000


def largest(fits: Callable[[int], bool]) -> int:
    """The largest integer that fits, or 1. If one fits, all smaller ones fit."""
    with torch.random.fork_rng(devices=[]):
        low, high = 1, 2
        while fits(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low


def _setting(family: Family, make: Make, width: int, match: str, most: int) -> Configuration:
    def fits(setting: int) -> bool:
        return numbers(_with(make(width), match, family.setting(setting)))[0] <= most

    if family.rising:
        return family.setting(largest(fits))
    with torch.random.fork_rng(devices=[]):
        return family.setting(next(filter(fits, count(4))))


def _with(model: nn.Module, match: str, to: Configuration) -> nn.Module:
    replace(model, {match: to}, init="new")
    return model


def _replaced(make: Make, width: int, match: str, to: Configuration, seed: int) -> nn.Module:
    return _with(make(width), match, to)


def _dense(make: Make, width: int, seed: int) -> Any:
    return make(width)
