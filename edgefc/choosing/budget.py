"""Budgets: what a compressed model may cost.

    bytes=0.25             a quarter of the bytes of the model's weights
    bytes=6000000          bytes; also 6MB, 1.5GB
    numbers=0.1            a tenth of the numbers that the model stores; from 1 on, numbers
    latency=2ms@pi         of one run on a device of `edgefc devices list`; also 500us, and 0.5@pi for half of it
    max-drop=0.01          the smallest model whose metric is at most .01 below that of the original

A budget is such a text, in Python too, or a Budget.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from edgefc.errors import UsageError, shortened

KINDS = ("bytes", "numbers", "latency", "max-drop")

_EXAMPLES = "Give one such as bytes=0.25, numbers=1000000, latency=2ms@local or max-drop=0.01."
_FORM = re.compile(r"([a-z-]+)=([0-9.]+(?:[eE][+-]?[0-9]+)?) *([a-zA-Z]*)(?:@(.+))?")
_UNITS = {
    "bytes": {"": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9},
    "numbers": {"": 1.0},
    "latency": {"": 1.0, "us": 1.0, "ms": 1e3, "s": 1e6},
    "max-drop": {"": 1.0},
}


@dataclass(frozen=True)
class Budget:
    """What a compressed model may cost.

    Attributes:
        kind       bytes, numbers, latency or max-drop
        value      bytes, numbers, microseconds, or units of the metric
        relative   whether the value is a fraction of the original model's; not for max-drop
        device     of a latency
    """

    kind: str
    value: float
    relative: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"there is no budget {self.kind!r}. {_EXAMPLES}")
        lowest = self.value >= 0 if self.kind == "max-drop" else self.value > 0
        if not (math.isfinite(self.value) and lowest):
            raise UsageError(f"the budget {self.kind} is {self.value:g}, which no model meets. {_EXAMPLES}")
        if (self.device is None) == (self.kind == "latency"):
            wrong = "needs a device" if self.device is None else "has no device"
            raise UsageError(f"the budget {self.kind} {wrong}. {_EXAMPLES}")

    def limit(self, whole: float) -> float:
        """The largest cost, for a model that costs `whole`."""
        return self.value * whole if self.relative else self.value

    def __str__(self) -> str:
        at = "" if self.device is None else f"@{self.device}"
        unit = "us" if self.kind == "latency" and not self.relative else ""
        return f"{self.kind}={self.value:.12g}{unit}{at}"


def budget_of(given: Any) -> Budget:
    """A budget from its text, or as given.

    Raises:
        UsageError: another object, or a text that is no budget.
    """
    if isinstance(given, Budget):
        return given
    if not isinstance(given, str):
        raise UsageError(f"a budget cannot be {shortened(repr(given), 60)}. {_EXAMPLES}")
    found = _FORM.fullmatch(given.strip())
    if found is None:
        raise UsageError(f"cannot read the budget {shortened(repr(given), 80)}. {_EXAMPLES}")
    kind, number, unit, device = found.groups()
    if kind not in KINDS:
        raise UsageError(f"there is no budget {kind!r}. {_EXAMPLES}")
    units = _UNITS[kind]
    if unit not in units:
        known = ", ".join(filter(None, units))
        raise UsageError(
            f"the budget {kind} has no unit {unit!r}. " + (f"Choose {known}." if known else "Leave it out.")
        )
    try:
        value = float(number)
    except ValueError:
        raise UsageError(f"the budget {given!r} has {number!r}, which is not a number. {_EXAMPLES}") from None
    relative = kind != "max-drop" and not unit and value < 1
    if kind == "latency" and not unit and not relative:
        raise UsageError(
            f"the latency {number} has no unit. Give ms or us, such as latency={number}ms@{device or 'local'}."
        )
    return Budget(kind, value * units[unit], relative, device)
