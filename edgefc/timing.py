"""Time and memory of the steps of some work."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class StepReport:
    """Time and memory of one step.

    Attributes:
        seconds      wall time
        peak_bytes   the largest memory of the process until the end of the step; 0 if the system does not tell
    """

    name: str
    seconds: float
    peak_bytes: int


class Steps:
    """The steps of some work, each with its time and memory."""

    def __init__(self) -> None:
        self.done: list[StepReport] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measures the block. Blocks of the same name are one step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            same = [index for index, each in enumerate(self.done) if each.name == name]
            if same:
                seconds += self.done[same[0]].seconds
                self.done[same[0]] = StepReport(name, seconds, _peak_bytes())
            else:
                self.done.append(StepReport(name, seconds, _peak_bytes()))


def _peak_bytes() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
