"""What a plan costs, in the unit of a budget."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgefc.choosing.subject import Choices, Swap, Unit
from edgefc.plan.configurations import Configuration


@dataclass(frozen=True)
class Costs:
    """What the parts of a model cost: bytes, numbers or microseconds.

    Attributes:
        what     the unit, such as "bytes"
        other    what the rest of the model costs
        before   each unit as it is
        after    each unit as a configuration; what is missing cannot be chosen
    """

    what: str
    other: float
    before: Mapping[str, float]
    after: Mapping[tuple[str, Configuration], float]

    @property
    def whole(self) -> float:
        """The cost of the model as it is."""
        return self.other + sum(self.before.values())

    def of(self, choices: Choices) -> float:
        """The cost of the model with all choices."""
        units = (self.after[name, choices[name]] if name in choices else own for name, own in self.before.items())
        return self.other + sum(units)


def sizes(what: str, other: float, units: Sequence[Unit], swaps: Iterable[Swap]) -> Costs:
    """The costs in "bytes" or "numbers"."""
    before = {unit.name: float(getattr(unit, what)) for unit in units}
    after = {(swap.unit, swap.configuration): float(getattr(swap, what)) for swap in swaps}
    return Costs(what, other, before, after)
