"""Chooses one option for each unit so that the sum of the losses is least and the sum of the costs is within a limit.

A dynamic programme over the costs, divided into buckets. A cost is rounded up to whole buckets, so that no answer
exceeds its limit. What the rounding leaves of the limit is then spent on the options that lower the loss most.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_BUCKETS = 1 << 14
_NARROW = 1e-9  # of the limit; for sums of float64


class Knapsack:
    """The best choice for every limit up to the largest.

    Attributes:
        costs, losses   of the options of each unit, one array for each unit; finite
        least           the smallest possible cost
    """

    def __init__(self, costs: Sequence[Array], losses: Sequence[Array], largest: float) -> None:
        """`largest` is the largest limit that can be asked for."""
        self.costs, self.losses = costs, losses
        self.least = float(sum(cost.min() for cost in costs))
        self._largest = largest
        self._bucket = max(largest - self.least, 0.0) / _BUCKETS or 1.0
        self._table, self._chosen = self._solve()

    def best(self, limit: float) -> list[int] | None:
        """The option of each unit with the least loss within a limit; None if every choice exceeds it."""
        limit = min(limit, self._largest) * (1 + _NARROW)
        if self.least > limit:
            return None
        at = min(int((limit - self.least) / self._bucket), _BUCKETS)
        return self._refined(self._trace(int(self._table[: at + 1].argmin())), limit)

    def frontier(self, points: int) -> Iterator[list[int]]:
        """Yields at most `points` choices with rising costs and falling losses, from the least cost to the largest."""
        span = np.geomspace(max(self.least, self._bucket), max(self._largest, self._bucket), points)
        last = float("inf")
        for limit in span:
            choice = self.best(float(limit))
            if choice is not None and (loss := self.loss(choice)) < last:
                last = loss
                yield choice

    def cost(self, choice: Sequence[int]) -> float:
        return float(sum(cost[option] for cost, option in zip(self.costs, choice, strict=True)))

    def loss(self, choice: Sequence[int]) -> float:
        return float(sum(loss[option] for loss, option in zip(self.losses, choice, strict=True)))

    def _solve(self) -> tuple[Array, list[NDArray[np.int16]]]:
        """table[b]: the least loss of choices of b buckets above the least cost. chosen: the options there, by unit."""
        table = np.full(_BUCKETS + 1, np.inf)
        table[0] = 0.0
        chosen = []
        for cost, loss in zip(self.costs, self.losses, strict=True):
            new, which = np.full_like(table, np.inf), np.zeros(len(table), np.int16)
            for option, size in enumerate(self._sizes(cost)):
                if size > _BUCKETS:
                    continue
                reached = np.full_like(table, np.inf)
                reached[size:] = table[: len(table) - size] + loss[option]
                better = reached < new
                new[better], which[better] = reached[better], option
            table = new
            chosen.append(which)
        return table, chosen

    def _sizes(self, cost: Array) -> list[int]:
        """The buckets of each option, rounded up."""
        return [int(size) for size in np.ceil((cost - cost.min()) / self._bucket * (1 - _NARROW))]

    def _trace(self, at: int) -> list[int]:
        options: list[int] = []
        for cost, which in zip(reversed(self.costs), reversed(self._chosen), strict=True):
            option = int(which[at])
            options.append(option)
            at -= self._sizes(cost)[option]
        return options[::-1]

    def _refined(self, choice: list[int], limit: float) -> list[int]:
        """Takes the option that lowers the loss most, as long as one fits."""
        left = limit - self.cost(choice)
        while True:
            moves = [
                (float(loss[now] - loss[option]), unit, option)
                for unit, (cost, loss, now) in enumerate(zip(self.costs, self.losses, choice, strict=True))
                for option in np.flatnonzero((loss < loss[now]) & (cost <= cost[now] + left))
            ]
            if not moves:
                return choice
            _, unit, option = max(moves, key=lambda move: move[0])
            left -= float(self.costs[unit][option] - self.costs[unit][choice[unit]])
            choice[unit] = int(option)
