"""A subject without a model: its losses are numbers, so that choices can be checked against all plans."""

import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from edgefc.choosing.subject import Choices, Swap, Unit
from edgefc.plan.configurations import Configuration, Half, Int2, Int3, Int4, Int8

QUANTISED: tuple[Configuration, ...] = (Half(), Int8(), Int4(), Int3(), Int2())
_BITS = {Half: 16, Int8: 8, Int4: 4, Int3: 3, Int2: 2}


@dataclass
class Numbers:
    """A subject whose loss is the sum of those of its units, times 1 + `cross` for each pair of neighbours in Int2.

    `cross` is what the swap losses do not tell. `pause` seconds pass in each measurement.
    """

    units: Sequence[Unit]
    losses: Mapping[tuple[str, Configuration], float]
    cross: float = 0.0
    pause: float = 0.0
    other_numbers: int = 10
    other_bytes: int = 40
    fingerprint: str = "numbers"
    has_metric: bool = False
    fitted: dict[str, bytes] = field(default_factory=dict)
    swept: list[str] = field(default_factory=list)
    measured: list[Choices] = field(default_factory=list)

    def swaps(self, unit: Unit) -> list[Swap]:
        time.sleep(self.pause)
        self.swept.append(unit.name)
        self.fitted[unit.name] = b"fits of " + unit.name.encode()
        return [
            Swap(unit.name, to, self.losses[unit.name, to], None, unit.numbers, int(unit.numbers * _BITS[type(to)] / 8))
            for to in unit.configurations
        ]

    def loss(self, choices: Choices) -> float:
        time.sleep(self.pause)
        assert choices.keys() <= self.fitted.keys(), "measured without fits"
        self.measured.append(choices)
        total = sum(self.losses[each] for each in choices.items())
        small = [isinstance(choices.get(unit.name), Int2) for unit in self.units]
        return total * (1 + self.cross * sum(a and b for a, b in itertools.pairwise(small)))

    def metric(self, choices: Choices) -> float | None:
        return 1 - self.loss(choices) if self.has_metric else None

    def pack(self, unit: Unit) -> bytes:
        return self.fitted[unit.name]

    def unpack(self, unit: Unit, content: bytes) -> None:
        assert content == b"fits of " + unit.name.encode()
        self.fitted[unit.name] = content

    def part(self, units: Sequence[Unit]) -> "Numbers":
        return replace(self, fitted={}, swept=[], measured=[])


def numbers(
    count: int = 6, *, seed: int = 0, without: Mapping[int, tuple[type, ...]] | None = None, **options: Any
) -> Numbers:
    """A subject of `count` units. `without`: kinds that do not serve a unit, by its index."""
    draw = np.random.default_rng(seed)
    units, losses = [], {}
    for index in range(count):
        size = int(draw.integers(50, 1000)) * 8
        absent = (without or {}).get(index, ())
        own = tuple(each for each in QUANTISED if type(each) not in absent)
        unit = Unit(f"layer.{index}", "Linear", size, 4 * size, own)
        base = float(draw.lognormal(-6, 1.5))
        losses |= {(unit.name, to): base * 4.0 ** -_BITS[type(to)] * float(draw.lognormal(0, 0.3)) for to in own}
        units.append(unit)
    return Numbers(units, losses, **options)


def main(folder: Path, workers: int) -> None:
    """Chooses with a folder, and prints the plan: a program that can be killed. workers: processes; 0: this one."""
    from edgefc.choosing.budget import budget_of
    from edgefc.choosing.choosing import choose
    from edgefc.plan.rules import configuration_text

    subject = numbers(8, cross=2.0, pause=0.06)
    print("started", flush=True)
    with ProcessPoolExecutor(workers, get_context("spawn")) if workers else nullcontext() as executor:
        choice = choose(subject, budget_of("bytes=0.1"), executor=executor, folder=folder)
    plan = {name: configuration_text(to) for name, to in sorted(choice.chosen.choices.items())}
    print(json.dumps({"plan": plan, "loss": choice.chosen.loss, "measured": len(subject.measured)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
