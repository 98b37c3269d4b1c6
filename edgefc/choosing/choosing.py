"""choose(): the plan of a model under a budget."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from edgefc.choosing.budget import Budget
from edgefc.choosing.choice import Choice, Point, quality
from edgefc.choosing.costs import Costs
from edgefc.choosing.menu import Menu
from edgefc.choosing.neighbours import neighbours
from edgefc.choosing.store import Store
from edgefc.choosing.subject import Choices, Subject
from edgefc.choosing.sweeping import sweep
from edgefc.choosing.uniform import uniform_plans
from edgefc.errors import UsageError
from edgefc.progress import steps
from edgefc.timing import Steps

_FRONTIER = 64
"""Plans of the frontier."""

_NEIGHBOURS = 12
"""Neighbours of a plan that are measured."""


def choose(
    subject: Subject,
    budget: Budget,
    *,
    costs: Costs | None = None,
    executor: Executor | None = None,
    folder: Path | None = None,
    measured: Steps | None = None,
) -> Choice:
    """Chooses what each unit becomes.

    Every configuration of every unit is measured with the other units unchanged. The plan with the least sum of these
    losses within the budget is measured, and so are its neighbours and all uniform plans. The best of them by
    measurement is chosen, so that it is never worse than a uniform plan within the budget.

    Args:
        costs      for a budget of latency
        executor   measures the units in parallel; None: in this process
        folder     keeps the results, so that the same call goes on after an interruption
        measured   gets the time and memory of the steps

    Raises:
        UsageError: no plan is within the budget, the budget needs a metric, or the folder has results of
            another model, other data or other settings.
    """
    done = Steps() if measured is None else measured
    store = Store(folder, subject)
    with done.step("measure each layer"):
        menu = Menu(subject, sweep(subject, store, executor), budget.kind, costs)
    search = _Search(store, menu, has_metric=store.metric({}) is not None)
    with done.step("measure uniform plans"):
        uniform = tuple(search.uniform())
    with done.step("choose"):
        frontier = tuple(menu.point("frontier", each) for each in menu.frontier(_FRONTIER))
        choice = (search.smallest if budget.kind == "max-drop" else search.best)(budget, uniform, frontier)
    with done.step("measure the layers of the plan"):
        return replace(choice, effects=search.effects(choice.chosen))


def compare(subject: Subject, choices: Choices, *, folder: Path | None = None, measured: Steps | None = None) -> Choice:
    """Measures a given plan, and the uniform plans to compare it with. The units' configurations include the plan's.

    Raises:
        UsageError: a layer of the plan cannot be fitted, or the folder has other results.
    """
    done = Steps() if measured is None else measured
    store = Store(folder, subject)
    with done.step("measure each layer"):
        menu = Menu(subject, sweep(subject, store), "bytes", None)
    search = _Search(store, menu, has_metric=store.metric({}) is not None)
    for name, to in choices.items():
        if to not in menu.configurations(name):
            raise UsageError(f"{name} cannot become {to}: its fit failed. Choose another configuration.")
    with done.step("measure the plan"):
        chosen = search.measured("plan", choices)
        effects = search.effects(chosen)
    with done.step("measure uniform plans"):
        uniform = tuple(search.uniform())
    return Choice(search.original, chosen, chosen, uniform, swaps=menu.swaps, effects=effects, limit=chosen.cost)


class _Search:
    """Measures plans of a menu."""

    def __init__(self, store: Store, menu: Menu, *, has_metric: bool) -> None:
        self._store, self._menu, self._has_metric = store, menu, has_metric

    def uniform(self) -> list[Point]:
        plans = list(uniform_plans(self._menu.units, self._menu.swaps))
        return [self.measured(each.name, each.choices) for each in steps(plans, "measuring uniform plans")]

    def best(self, budget: Budget, uniform: Sequence[Point], frontier: Sequence[Point]) -> Choice:
        """The best plan within a budget of bytes, numbers or latency."""
        menu = self._menu
        limit = budget.limit(menu.costs.whole)
        choices = menu.best(limit)
        if choices is None:
            raise UsageError(_too_small(budget, limit, menu))
        first = self.measured("least predicted loss", choices)
        tried: list[Point] = []
        chosen = first
        for _ in steps(range(_NEIGHBOURS), "measuring neighbours"):
            known = [first.choices, *(each.choices for each in tried)]
            near = next((each for each in neighbours(menu, chosen.choices, limit) if each not in known), None)
            if near is None:
                break
            tried.append(self.measured("neighbour", near))
            chosen = max(chosen, tried[-1], key=quality)
        rivals = [each for each in uniform if each.cost <= limit]
        chosen = max([chosen, *rivals], key=quality)
        return self._choice(budget, chosen, first, uniform, tried, frontier, limit)

    def smallest(self, budget: Budget, uniform: Sequence[Point], frontier: Sequence[Point]) -> Choice:
        """The smallest plan whose metric drops by at most the budget, by bisection of the frontier."""
        original = self._store.metric({})
        if original is None:
            raise UsageError(f"the budget {budget} needs a metric. Give one, or a budget such as bytes=0.25.")
        least = original - budget.value
        low, high = 0, len(frontier)  # frontier[high] is good enough; at the end of the list it is the original
        good = self.original
        tried: list[Point] = []
        for _ in steps(range(len(frontier).bit_length()), "measuring the frontier"):
            if low == high:
                break
            middle = (low + high) // 2
            tried.append(self.measured("frontier", frontier[middle].choices))
            if tried[-1].metric is not None and tried[-1].metric >= least:
                good, high = tried[-1], middle
            else:
                low = middle + 1
        fitting = [each for each in uniform if each.metric is not None and each.metric >= least]
        chosen = min([good, *fitting], key=lambda each: each.cost)
        return self._choice(budget, chosen, good, uniform, tried, frontier, float("inf"))

    def effects(self, point: Point) -> dict[str, float]:
        """By how much the loss falls if one unit stays."""
        whole = self._store.loss(point.choices)
        names = steps(list(point.choices), "measuring the layers of the plan")
        return {name: whole - self._store.loss(_without(point.choices, name)) for name in names}

    @property
    def original(self) -> Point:
        return self.measured("original", {})

    def _choice(
        self, budget: Budget, chosen: Point, first: Point, uniform: Sequence[Point], tried: Sequence[Point],
        frontier: Sequence[Point], limit: float,
    ) -> Choice:  # fmt: skip
        return Choice(
            self.original, replace(chosen, name="chosen"), first, tuple(uniform), tuple(tried), tuple(frontier),
            self._menu.swaps, {}, budget, limit, self._menu.costs.what,
        )  # fmt: skip

    def measured(self, name: str, choices: Choices) -> Point:
        metric = self._store.metric(choices) if self._has_metric else None
        return replace(self._menu.point(name, choices), loss=self._store.loss(choices), metric=metric)


def _without(choices: Choices, name: str) -> Choices:
    return {other: to for other, to in choices.items() if other != name}


def _too_small(budget: Budget, limit: float, menu: Menu) -> str:
    least, whole, what = menu.least, menu.costs.whole, menu.costs.what
    relative = f" ({limit:,.0f} {what})" if budget.relative else ""
    enough = f"{budget.kind}={least / whole + 5e-4:.3f}"
    return (
        f"no plan is within {budget}{relative}: the smallest one has {least:,.0f} {what}, of which "
        f"{menu.costs.other:,.0f} are not in layers that can be replaced. Give at least {enough}, or other candidates."
    )
