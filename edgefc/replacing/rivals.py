"""What quantisation would do at the bytes of a structured layer."""

from dataclasses import dataclass

from edgefc.fitting.error import cost_matrix, output_error
from edgefc.fitting.moments import Moments
from edgefc.fitting.solve import fit
from edgefc.plan.configurations import (
    PRP,
    Bilinear,
    Circulant,
    Configuration,
    EUGen,
    Half,
    Int2,
    Int3,
    Int4,
    Int8,
    LowRank,
    Monarch,
)  # fmt: skip
from edgefc.replacing.deciding import Decision
from edgefc.replacing.finding import LINEAR
from edgefc.replacing.making import Made, weight_of
from edgefc.replacing.measuring import bytes_of
from edgefc.replacing.statistics import Statistics

_STRUCTURED = (Bilinear, Circulant, EUGen, LowRank, Monarch, PRP)
_RIVALS = (Half(), Int8(), Int4(), Int3(), Int2())
"""In the order of their bytes."""


@dataclass(frozen=True)
class Rival:
    """The quantised layer with the most bits that takes at most the bytes of the structured one."""

    configuration: Configuration
    bytes: int
    error: float


def rival_of(decision: Decision, made: Made, statistics: Statistics) -> Rival | None:
    """Returns the quantised competitor of a structured linear layer, or None if there is nothing to compare."""
    if not isinstance(decision.configuration, _STRUCTURED) or decision.target.kind != LINEAR or made.error is None:
        return None
    weight, bias = weight_of(decision.target)
    moments = statistics if isinstance(statistics, Moments) and statistics.count else None
    limit = bytes_of(made.layer)
    for configuration in _RIVALS:
        if _bits(configuration) * weight.size / 8 > limit:
            continue
        fitted = fit(configuration, weight, bias, moments, decision.seed)
        if fitted.stored_bits // 8 <= limit:
            error = output_error(weight, fitted.dense(), cost_matrix(bias, moments))
            return Rival(configuration, fitted.stored_bits // 8, error)
    return None


def _bits(configuration: Configuration) -> float:
    bits = {Half: 16, Int8: 8, Int4: 4, Int3: 3, Int2: 2}[type(configuration)]
    return bits + 16 / getattr(configuration, "group", float("inf"))
