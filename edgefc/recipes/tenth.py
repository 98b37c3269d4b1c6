"""The arms of the recipes that train with a tenth of the numbers of a dense model.

dense                 the model of the recipe
FAMILY                the same model in which edgefc.replace(init="new") has put layers of one family into the body. Its
                      setting (rank, blocks, features, terms) is the one with the most numbers that a tenth allows. "x2"
                      is twice the width before the replacement.
Tied, narrow          the largest width at which the model with tied feed-forward pairs has a tenth of the numbers
narrow dense          the dense model with the largest width that a tenth allows
narrow dense, int8    the dense model with the largest width whose weights take a tenth of the bytes in 8 bits. It is
narrow dense, int4    trained in float32 and rounded afterwards. The same in 4 bits.

Layers of the body that a family does not replace stay dense: a convolution under LowRank, for example.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.plan.configurations import (
    PRP,
    Bilinear,
    Circulant,
    Configuration,
    EUGen,
    Int4,
    Int8,
    LowRank,
    Monarch,
    Tied,
)
from edgefc.recipes.fit import accuracy, fit_classes
from edgefc.recipes.recipe import Arm, Job, Outcome
from edgefc.recipes.sizes import numbers
from edgefc.replacing.measuring import bytes_of
from edgefc.replacing.replacing import replace

TENTH = 10
KB = "kB"
CALIBRATION_ROWS = 256
AFTERWARDS: Mapping[str, Configuration] = {"narrow dense, int8": Int8(group=32), "narrow dense, int4": Int4()}

Make = Callable[[int], nn.Module]  # width -> untrained dense model


@dataclass(frozen=True)
class Family:
    """A family of layers.

    setting  a number -> the configuration
    rising   whether a larger number means more numbers in the layer
    widen    the width of the model before the replacement / that of the dense model
    """

    name: str
    setting: Callable[[int], Configuration]
    rising: bool = True
    widen: int = 1


LOW_RANK = Family("LowRank", lambda quarters: LowRank(ratio=quarters / 4), rising=False)
MONARCH = Family("Monarch", lambda blocks: Monarch(blocks=blocks), rising=False)
CIRCULANT = Family("Circulant", lambda block: Circulant(block=block), rising=False)
PRP_RANK = Family("PRP + rank", lambda rank: PRP(rank=rank))
EUGEN = Family("EUGen", lambda features: EUGen(features=features))
BILINEAR = Family("Bilinear", lambda terms: Bilinear(terms=terms))
BILINEAR_X2 = Family("Bilinear x2", BILINEAR.setting, widen=2)
ALL = (LOW_RANK, MONARCH, CIRCULANT, PRP_RANK, EUGEN, BILINEAR)

BODY, PAIRS = "body.*", "*.pair"  # patterns of names
_LEAST, _MOST = 4, 257  # the settings that are tried if larger ones have fewer numbers: ratios from 1, from 4 blocks


def arms(
    make: Make, width: int, families: Sequence[Family], rate: float, *, step: int = 1, tied: bool = False
) -> list[Arm]:
    """The arms of a recipe.

    Args:
        make      makes the dense model of a width. Its layers `body` are replaced.
        width     of the dense model
        families  which to compare
        rate      the learning rate of the two models that are rounded afterwards, which is not tuned
        step      widths are multiples of it
        tied      whether the model has feed-forward pairs named `pair`

    Raises:
        UsageError: what a family leaves dense has more than a tenth of the numbers.
    """
    whole = make(width)
    most, most_bytes = numbers(whole)[0] // TENTH, bytes_of(whole) // TENTH

    def narrow(fits: Callable[[nn.Module], bool]) -> int:
        return step * largest(lambda steps: fits(make(step * steps)))

    made = [Arm("dense", partial(_dense, make, width))]
    for family in families:
        wide = width * family.widen
        made.append(Arm(family.name, partial(_replaced, make, wide, BODY, _setting(family, make, wide, most))))
    if tied:
        wide = narrow(lambda model: numbers(_with(model, PAIRS, Tied()))[0] <= most)
        made.append(Arm("Tied, narrow", partial(_replaced, make, wide, PAIRS, Tied())))
    made.append(Arm("narrow dense", partial(_dense, make, narrow(lambda model: numbers(model)[0] <= most))))
    for name, to in AFTERWARDS.items():
        wide = narrow(lambda model, to=to: bytes_of(_with(model, "*", to)) <= most_bytes)  # type: ignore[misc]
        made.append(Arm(name, partial(_dense, make, wide), (rate,)))
    return made


def classified(model: nn.Module, job: Job, steps: int, size: int, warm: int = 0) -> Outcome:
    """Train on `size` images in each step. Returns the percentage of held-out images that are classified correctly."""
    part, held_out = job.data.split(job.seed, tuning=job.tuning)
    fit_classes(model, job.rate, steps, part, size, fused=True, warm=warm)
    more = stored(model, job.arm, part.x[:CALIBRATION_ROWS])
    return Outcome(accuracy(model, held_out), more)


def stored(model: nn.Module, arm: str, inputs: Tensor) -> dict[str, float]:
    """Rounds the weights of a trained model if the arm says so. Returns the bytes of its numbers, in kB.

    `inputs` are training inputs of the model, from which the rounding takes its statistics.
    """
    if arm in AFTERWARDS:
        replace(model, {"*": AFTERWARDS[arm]}, calibration=[inputs])
    return {KB: bytes_of(model) / 1000}


def largest(fits: Callable[[int], bool]) -> int:
    """The largest integer from 1 that fits, or 0. If one fits, all smaller ones fit."""
    with torch.random.fork_rng(devices=[]):
        low, high = 0, 1
        while fits(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low


def _setting(family: Family, make: Make, width: int, most: int) -> Configuration:
    def fits(setting: int) -> bool:
        try:
            return numbers(_with(make(width), BODY, family.setting(setting)))[0] <= most
        except UsageError:  # no layer has this setting: a block longer than the layer
            return False

    with torch.random.fork_rng(devices=[]):
        if family.rising:
            setting = largest(fits)
        else:
            setting = next(filter(fits, range(_LEAST, _MOST)), 0)
    if not setting:
        raise UsageError(
            f"no {family.name} model has a tenth of the numbers of the dense one, {most:,}: what stays dense has too "
            "many. Use larger images, or omit --data."
        )
    return family.setting(setting)


def _with(model: nn.Module, match: str, to: Configuration) -> nn.Module:
    replace(model, {match: to}, init="new")
    return model


def _replaced(make: Make, width: int, match: str, to: Configuration, seed: int) -> nn.Module:
    return _with(make(width), match, to)


def _dense(make: Make, width: int, seed: int) -> nn.Module:
    return make(width)
