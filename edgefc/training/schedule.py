"""The learning rate over the budget, which is a number of steps or a time.

The budget is cut into phases: two trials of a tenth each, one for each learning rate, then the rest with the better
one. Each has a warm-up and a cosine decay of its own. Because the rate follows the fraction of the budget that is used,
it decays in time on a machine of any speed and load.
"""

import math
import time
from dataclasses import dataclass

RATES = (1e-3, 3e-4)
"""The learning rates that are tried."""

TRIAL = 0.1
"""The part of the budget of one trial."""

_WARM_UP = 0.1
_LEAST = 0.01
LEAST_STEPS = 10
"""A trial of fewer steps says nothing."""

clock = time.monotonic


@dataclass(frozen=True)
class Phase:
    """A part of the budget, from `start` to `end`, both from 0 to 1, with one peak of the learning rate."""

    start: float
    end: float
    lr: float
    trial: bool = False

    def rate(self, used: float) -> float:
        """The learning rate where `used` of the budget is used."""
        part = min(1.0, max(0.0, (used - self.start) / (self.end - self.start)))
        if part < _WARM_UP:
            return self.lr * (part + 0.01) / (_WARM_UP + 0.01)
        falling = (part - _WARM_UP) / (1 - _WARM_UP)
        return self.lr * (_LEAST + (1 - _LEAST) * (1 + math.cos(math.pi * falling)) / 2)


def trials(rates: tuple[float, ...]) -> list[Phase]:
    """Returns the trials of these rates."""
    return [Phase(index * TRIAL, (index + 1) * TRIAL, rate, True) for index, rate in enumerate(rates)]


class Budget:
    """How much of the steps or of the time is used.

    Attributes:
        step     optimizer steps so far
        seconds  training time before the process started, for a run that was interrupted
    """

    def __init__(self, steps: int | None, minutes: float | None) -> None:
        self.steps, self.limit = steps, None if minutes is None else 60 * minutes
        self.step, self.before = 0, 0.0
        self._start = clock()

    def elapsed(self) -> float:
        """Seconds of training, that before an interruption included."""
        return self.before + clock() - self._start

    def used(self, reserve: float = 0.0) -> float:
        """The used part of the budget, 1 at its end. `reserve` are seconds that are needed after the training."""
        if self.steps is not None:
            return min(1.0, self.step / self.steps)
        assert self.limit is not None
        return min(1.0, self.elapsed() / max(1e-9, self.limit - reserve))
