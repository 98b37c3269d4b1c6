"""Results: the results of one recipe, and their file format, summary.json.

Names end with the unit, except for the metric, which has its own. A value that could not be measured is null.

Format history (schema_version):
    1   first
"""

import math
from statistics import mean, stdev
from typing import Literal

from edgefc.runtime.profiling.parts import Part

SCHEMA_VERSION: Literal[1] = 1


class MetricPart(Part):
    """The metric. form is a format such as ".2f"."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    form: str

    def text(self, value: float) -> str:
        return format(value, self.form)

    @property
    def heading(self) -> str:
        return f"{self.name}, {self.unit}" if self.unit else self.name


class Run(Part):
    """One training. seconds is the CPU time of train()."""

    value: float
    more: dict[str, float]
    seconds: float


class ArmPart(Part):
    """One arm. parameters counts trained numbers, numbers_stored those of the state dict. `tried` is the mean value of
    each rate."""

    name: str
    parameters: int
    numbers_stored: int
    rate: float
    tried: dict[str, float]
    runs: tuple[Run, ...]

    @property
    def values(self) -> list[float]:
        return [run.value for run in self.runs]

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def sd(self) -> float | None:
        return stdev(self.values) if len(self.runs) > 1 else None

    @property
    def seconds(self) -> float:
        return mean(run.seconds for run in self.runs)


class Machine(Part):
    """instructions is the instruction set that torch uses, such as AVX2; None in older files."""

    machine: str
    cpu: str | None
    cores: int
    instructions: str | None = None


class Results(Part):
    """The results of one recipe. Runs are in the order of the seeds 0, 1, ...

    test_over_train is 0 if all seeds have the same test data. Otherwise it is the number of test rows / training rows
    in the split of each seed.
    """

    schema_version: Literal[1]
    recipe: str
    paper: str
    question: str
    quick: bool
    data: str
    test_over_train: float
    own_data: bool
    metric: MetricPart
    training: str
    pairs: tuple[tuple[str, str], ...]
    arms: tuple[ArmPart, ...]
    machine: Machine
    versions: dict[str, str]
    fingerprint: str
    seconds: float
    sentences: tuple[str, ...]

    @property
    def seeds(self) -> int:
        return len(self.arms[0].runs)

    def arm(self, name: str) -> ArmPart:
        return next(arm for arm in self.arms if arm.name == name)

    def distance(self, arm: ArmPart) -> float:
        """How much worse the arm is than the first one, in standard deviations of the first. Negative if it is better.

        nan if the first arm has no standard deviation: one seed, or equal values.
        """
        first = self.arms[0]
        worse = first.mean - arm.mean if self.metric.better == "higher" else arm.mean - first.mean
        return worse / first.sd if first.sd else math.nan

    @property
    def within(self) -> list[str]:
        """The names of the arms that are at most one standard deviation of the first arm worse than it."""
        return [arm.name for arm in self.arms[1:] if self.distance(arm) <= 1]
