"""The temperature, clock frequency and throttling of a Linux machine at this moment, from sysfs.

Standard library only, because the agent on a board uses it. Python 3.9 evaluates the annotations of Heat.
"""
# ruff: noqa: UP045

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from edgefc.runtime.probes import sysfs

_THERMAL = Path("/sys/class/thermal")
# The firmware of a Raspberry Pi. Bits 0 to 3 are the present state: under-voltage, frequency capped, throttled, soft
# temperature limit.
_FIRMWARE = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
_NOW = 0xF
_REASONS = {
    "temperature_c": "the kernel exposes no thermal zone (usual in virtual machines)",
    "frequency_hz": "the kernel does not expose cpufreq (usual in virtual machines)",
    "throttled": "neither the firmware nor a cooling device reports it",
}


@dataclass(frozen=True)
class Heat:
    """The state at one moment.

    Attributes:
        temperature_c   the temperature of the hottest thermal zone, degrees Celsius
        frequency_hz    the clock frequency of the slowest core that is online
        throttled       whether the processor is throttled now
        missing         by name: the reason why a value is None
    """

    temperature_c: Optional[float]
    frequency_hz: Optional[int]
    throttled: Optional[bool]
    missing: dict[str, str]


def state() -> Heat:
    temperature, frequency, throttled = temperature_c(), _frequency_hz(), _throttled()
    values = {"temperature_c": temperature, "frequency_hz": frequency, "throttled": throttled}
    missing = {name: _REASONS[name] for name, value in values.items() if value is None}
    return Heat(temperature, frequency, throttled, missing)


def temperature_c() -> float | None:
    """The temperature of the hottest zone. Values that are not between -40 and 200 degrees are ignored."""
    degrees = (value / 1000 for value in sysfs.numbers(_THERMAL, "thermal_zone*/temp"))
    return max((value for value in degrees if -40 < value < 200), default=None)


def _frequency_hz() -> int | None:
    return min((khz * 1000 for khz in sysfs.numbers(sysfs.CPUS, "cpu[0-9]*/cpufreq/scaling_cur_freq")), default=None)


def _throttled() -> bool | None:
    try:
        return bool(int(_FIRMWARE.read_text(), 16) & _NOW)
    except (OSError, ValueError):
        pass
    states = list(sysfs.numbers(_THERMAL, "cooling_device*/cur_state", of="cpufreq"))
    return any(states) if states else None
