"""What was chosen, and what it was compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgefc.choosing.budget import Budget
from edgefc.choosing.subject import Choices, Swap


@dataclass(frozen=True)
class Point:
    """A plan.

    Attributes:
        name             such as "Int4"
        numbers, bytes   of the whole model
        cost             in the unit of the budget: bytes, numbers or microseconds
        predicted        the sum of the losses of its swaps
        loss, metric     measured; None if it was not
    """

    name: str
    choices: Choices
    numbers: int
    bytes: int
    cost: float
    predicted: float
    loss: float | None = None
    metric: float | None = None


@dataclass(frozen=True)
class Choice:
    """The result of choose().

    Attributes:
        original     the model as it is
        chosen       the plan
        first        the plan with the least predicted loss within the budget
        uniform      the uniform plans, all measured, within the budget or not
        tried        plans near the chosen one that were measured
        frontier     the plans with the least predicted loss for rising costs
        swaps        of each unit, by its name
        effects      by how much the loss of the chosen plan falls if a unit stays, by the name of the unit
        budget       None: the plan was given
        limit        the largest cost; infinite if the budget has none, that of the plan if it was given
        what         the unit of costs
    """

    original: Point
    chosen: Point
    first: Point
    uniform: tuple[Point, ...] = ()
    tried: tuple[Point, ...] = ()
    frontier: tuple[Point, ...] = ()
    swaps: Mapping[str, tuple[Swap, ...]] = field(default_factory=dict)
    effects: Mapping[str, float] = field(default_factory=dict)
    budget: Budget | None = None
    limit: float = float("inf")
    what: str = "bytes"

    @property
    def best_uniform(self) -> Point | None:
        """The best uniform plan within the budget, or None."""
        fitting = [each for each in self.uniform if each.cost <= self.limit]
        return max(fitting, key=quality, default=None)


def quality(point: Point) -> tuple[float, float]:
    """What decides between two measured plans: the user's metric if there is one, then the loss."""
    loss = float("inf") if point.loss is None else point.loss
    return (0.0 if point.metric is None else point.metric), -loss
