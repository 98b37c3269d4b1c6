"""The options of each unit, with their costs and losses."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from edgefc.choosing.choice import Point
from edgefc.choosing.costs import Costs, sizes
from edgefc.choosing.knapsack import Knapsack
from edgefc.choosing.subject import Choices, Subject, Swap, Unit
from edgefc.plan.configurations import Configuration, Keep


class Menu:
    """The options of each unit. The first one is to stay.

    Attributes:
        options         of each unit, in the order of `units`
        costs, losses   of each option
    """

    def __init__(self, subject: Subject, swaps: Mapping[str, Sequence[Swap]], kind: str, costs: Costs | None) -> None:
        """`kind` is that of the budget. `costs` are those of a latency."""
        self.units = list(subject.units)
        if costs is not None:  # what has no cost was not measured, and cannot be chosen
            known = costs.after
            swaps = {name: [each for each in own if (name, each.configuration) in known] for name, own in swaps.items()}
        finite = {name: tuple(each for each in own if np.isfinite(each.loss)) for name, own in swaps.items()}
        self.swaps: Mapping[str, tuple[Swap, ...]] = finite
        every = [swap for own in finite.values() for swap in own]
        self._by_choice = {(swap.unit, swap.configuration): swap for swap in every}
        self._numbers = sizes("numbers", subject.other_numbers, self.units, every)
        self._bytes = sizes("bytes", subject.other_bytes, self.units, every)
        self.costs = costs or (self._numbers if kind == "numbers" else self._bytes)
        self.options: list[list[Configuration]] = [
            [Keep(), *(swap.configuration for swap in finite[unit.name])] for unit in self.units
        ]
        pairs = list(zip(self.units, self.options, strict=True))
        self.unit_costs = [np.array([self._cost(unit, each) for each in own]) for unit, own in pairs]
        self.losses = [np.array([self._loss(unit, each) for each in own]) for unit, own in pairs]

    def configurations(self, name: str) -> list[Configuration]:
        """What a unit can become."""
        return [swap.configuration for swap in self.swaps.get(name, ())]

    @cached_property
    def _knapsack(self) -> Knapsack:
        return Knapsack(self.unit_costs, self.losses, sum(float(cost.max()) for cost in self.unit_costs))

    @property
    def least(self) -> float:
        """The cost of the smallest plan."""
        return self._knapsack.least + self.costs.other

    def best(self, limit: float) -> Choices | None:
        """The plan with the least predicted loss within a limit; None if every plan exceeds it."""
        found = Knapsack(self.unit_costs, self.losses, limit - self.costs.other).best(limit - self.costs.other)
        return None if found is None else self.choices_of(found)

    def frontier(self, points: int) -> Iterator[Choices]:
        """The plans with the least predicted loss for rising costs."""
        return (self.choices_of(each) for each in self._knapsack.frontier(points))

    def choices_of(self, numbers: Sequence[int]) -> Choices:
        chosen = zip(self.units, self.options, numbers, strict=True)
        return {unit.name: own[number] for unit, own, number in chosen if number}

    def numbers_of(self, choices: Choices) -> list[int]:
        """The number of the option of each unit. The inverse of choices_of()."""
        return [own.index(choices.get(unit.name, Keep())) for unit, own in zip(self.units, self.options, strict=True)]

    def point(self, name: str, choices: Choices) -> Point:
        """The plan, not measured."""
        predicted = sum(self._by_choice[choice].loss for choice in choices.items())
        numbers, size = (costs.of(choices) for costs in (self._numbers, self._bytes))
        return Point(name, choices, int(numbers), int(size), self.costs.of(choices), predicted)

    def _cost(self, unit: Unit, to: Configuration) -> float:
        return self.costs.before[unit.name] if isinstance(to, Keep) else self.costs.after[unit.name, to]

    def _loss(self, unit: Unit, to: Configuration) -> float:
        return 0.0 if isinstance(to, Keep) else self._by_choice[unit.name, to].loss
