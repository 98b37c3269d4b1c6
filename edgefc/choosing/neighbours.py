"""Plans near a plan: one unit gets an option with a smaller loss, and another one a cheaper option."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from edgefc.choosing.menu import Menu
from edgefc.choosing.subject import Choices

_MOVES = 400
"""Moves up, and moves down, that are combined: those with the largest gain per cost."""

_EACH = 2
"""Neighbours in which a unit takes part, so that those that are measured differ."""


def neighbours(menu: Menu, choices: Choices, limit: float) -> Iterator[Choices]:
    """Yields the neighbours within a limit, those with the smallest predicted loss first."""
    now = menu.numbers_of(choices)
    moves = [
        (unit, option, cost[option] - cost[now[unit]], loss[option] - loss[now[unit]])
        for unit, (cost, loss) in enumerate(zip(menu.unit_costs, menu.losses, strict=True))
        for option in range(len(cost))
        if option != now[unit]
    ]
    up = sorted((each for each in moves if each[3] < 0), key=lambda each: each[3] / max(each[2], 1e-9))[:_MOVES]
    down = sorted((each for each in moves if each[2] < 0), key=lambda each: each[3] / -each[2])[:_MOVES]
    down = [(-1, 0, 0.0, 0.0), *down]  # nothing goes down
    if not up:
        return
    units, options, costs, losses = (np.array(part) for part in zip(*up, strict=True))
    units2, options2, costs2, losses2 = (np.array(part) for part in zip(*down, strict=True))
    left = limit - menu.costs.of(choices)
    fits = (costs[:, None] + costs2 <= left) & (units[:, None] != units2)
    gains = losses[:, None] + losses2
    used: Counter[int] = Counter()
    for at in np.argsort(gains, axis=None, kind="stable"):
        one, two = divmod(int(at), len(units2))
        pair = [int(units[one]), int(units2[two])]
        if not fits[one, two] or any(used[each] >= _EACH for each in pair if each >= 0):
            continue
        used.update(pair)
        new = list(now)
        new[pair[0]] = int(options[one])
        if pair[1] >= 0:
            new[pair[1]] = int(options2[two])
        yield menu.choices_of(new)
