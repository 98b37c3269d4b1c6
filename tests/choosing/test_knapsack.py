"""The knapsack against all plans."""

import itertools
import math

import numpy as np
import pytest

from edgefc.choosing.knapsack import Knapsack


def brute_force(costs: list[np.ndarray], losses: list[np.ndarray], limit: float) -> float:
    """The least loss within a limit, over all plans."""
    every = itertools.product(*(range(len(cost)) for cost in costs))
    fitting = [
        sum(loss[o] for loss, o in zip(losses, plan, strict=True))
        for plan in every
        if sum(cost[o] for cost, o in zip(costs, plan, strict=True)) <= limit
    ]
    return min(fitting, default=math.inf)


def problem(seed: int, units: int = 5, options: int = 5) -> tuple[list[np.ndarray], list[np.ndarray]]:
    draw = np.random.default_rng(seed)
    costs = [draw.integers(10, 10_000, options).astype(float) for _ in range(units)]
    losses = [draw.lognormal(-4, 2, options) for _ in range(units)]
    return costs, losses


@pytest.mark.parametrize("seed", range(8))
def test_best_is_that_of_all_plans_up_to_the_rounding_of_costs(seed: int) -> None:
    costs, losses = problem(seed)
    largest = sum(cost.max() for cost in costs)
    least = sum(cost.min() for cost in costs)
    for part in (0.02, 0.1, 0.3, 0.7, 1.0):
        limit = least + part * (largest - least)
        knapsack = Knapsack(costs, losses, limit)
        choice = knapsack.best(limit)
        assert choice is not None
        assert knapsack.cost(choice) <= limit * (1 + 1e-9)
        rounding = len(costs) * (limit - least) / (1 << 14)
        assert knapsack.loss(choice) <= brute_force(costs, losses, limit - rounding) * (1 + 1e-9)
        assert knapsack.loss(choice) >= brute_force(costs, losses, limit) * (1 - 1e-9)


def test_a_limit_that_is_met_exactly_is_used() -> None:
    costs = [np.array([4.0, 1.0]), np.array([4.0, 1.0])]
    losses = [np.array([0.0, 3.0]), np.array([0.0, 2.0])]
    assert Knapsack(costs, losses, 5.0).best(5.0) == [0, 1]
    assert Knapsack(costs, losses, 2.0).best(2.0) == [1, 1]
    assert Knapsack(costs, losses, 8.0).best(8.0) == [0, 0]
    assert Knapsack(costs, losses, 1.9).best(1.9) is None


def test_what_rounding_leaves_is_spent() -> None:
    """Seventeen units lose almost a bucket each by rounding. One more upgrade fits."""
    units = 17
    costs = [np.array([0.0, 1000.01]) for _ in range(units)]
    losses = [np.array([1.0, 0.0]) for _ in range(units)]
    limit = units * 1000.01
    knapsack = Knapsack(costs, losses, limit)
    choice = knapsack.best(limit)
    assert choice == [1] * units


def test_rounding_never_exceeds_the_limit() -> None:
    """Fifty units of one and a half buckets each, and room for forty of them."""
    bucket = 1.0
    limit = bucket * (1 << 14)
    costs = [np.array([0.0, limit - 60 * bucket]), *(np.array([0.0, 1.5 * bucket]) for _ in range(50))]
    losses = [np.array([1000.0, 0.0]), *(np.array([1.0, 0.0]) for _ in range(50))]
    knapsack = Knapsack(costs, losses, limit)
    choice = knapsack.best(limit)
    assert choice is not None
    assert knapsack.cost(choice) <= limit * (1 + 1e-9)
    assert choice[0] == 1
    assert sum(choice) == 41


def test_an_option_that_costs_more_and_loses_more_is_never_chosen() -> None:
    """As with latency: a quantised layer may be slower."""
    costs, losses = [np.array([5.0, 9.0, 3.0])], [np.array([0.0, 1.0, 0.5])]
    assert [Knapsack(costs, losses, limit).best(limit) for limit in (3.0, 4.0, 5.0, 20.0)] == [[2], [2], [0], [0]]


def test_frontier_rises_in_cost_and_falls_in_loss() -> None:
    costs, losses = problem(3)
    knapsack = Knapsack(costs, losses, sum(cost.max() for cost in costs))
    plans = list(knapsack.frontier(30))
    assert len(plans) > 8
    spent, lost = [knapsack.cost(each) for each in plans], [knapsack.loss(each) for each in plans]
    assert lost == sorted(lost, reverse=True)
    assert spent[0] == sum(cost.min() for cost in costs)
    assert lost[-1] == pytest.approx(sum(loss.min() for loss in losses))
