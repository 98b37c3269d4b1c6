"""Heat and clocks from a sysfs that the test writes, and the wait before a repetition."""

import os
from pathlib import Path
from typing import Any

import pytest

from edgefc.devices.agent import main
from edgefc.devices.agent.lines import Lines
from edgefc.runtime.probes import heat, sysfs


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(heat, "_THERMAL", tmp_path / "thermal")
    monkeypatch.setattr(sysfs, "CPUS", tmp_path / "cpus")
    monkeypatch.setattr(heat, "_FIRMWARE", tmp_path / "get_throttled")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_machine_that_tells_nothing(kernel: Path) -> None:
    found = heat.state()

    assert (found.temperature_c, found.frequency_hz, found.throttled) == (None, None, None)
    assert set(found.missing) == {"temperature_c", "frequency_hz", "throttled"}


def test_the_hottest_zone_and_the_slowest_core(kernel: Path) -> None:
    for zone, text in enumerate(("41500\n", "63200\n", "-274000\n", "nonsense", "250000")):
        write(kernel / f"thermal/thermal_zone{zone}/temp", text)
    for core, khz in enumerate((1500000, 600000)):
        write(kernel / f"cpus/cpu{core}/cpufreq/scaling_cur_freq", f"{khz}\n")

    assert heat.state() == heat.Heat(
        temperature_c=63.2, frequency_hz=600_000_000, throttled=None,
        missing={"throttled": "neither the firmware nor a cooling device reports it"},
    )  # fmt: skip


@pytest.mark.parametrize(("text", "throttled"), [("0", False), ("50000", False), ("50005", True), ("4", True)])
def test_a_firmware_that_tells(kernel: Path, text: str, throttled: bool) -> None:
    """Bits 16 and up are of the past."""
    write(kernel / "get_throttled", f"{text}\n")

    assert heat.state().throttled is throttled


@pytest.mark.parametrize(("state", "throttled"), [("0", False), ("3", True)])
def test_a_cooling_device_of_the_processor(kernel: Path, state: str, throttled: bool) -> None:
    """A fan that runs holds nothing back."""
    write(kernel / "thermal/cooling_device0/type", "cpufreq-cpu0\n")
    write(kernel / "thermal/cooling_device0/cur_state", state)
    write(kernel / "thermal/cooling_device1/type", "pwm-fan\n")
    write(kernel / "thermal/cooling_device1/cur_state", "4")

    assert heat.state().throttled is throttled


@pytest.mark.parametrize(
    ("temperatures", "waited"),
    [([None], 0), ([64.9], 0), ([70.0, 68.0, 64.0], 2), ([90.0], 60)],
    ids=["unknown", "cool", "cools", "never cools"],
)
def test_a_hot_board_is_waited_for_but_not_forever(
    monkeypatch: pytest.MonkeyPatch, temperatures: list[Any], waited: int
) -> None:
    now = [0.0]
    left = list(temperatures)
    monkeypatch.setattr(heat, "temperature_c", lambda: left.pop(0) if len(left) > 1 else left[0])
    monkeypatch.setattr(main.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(main.time, "monotonic", lambda: now[0])
    read, write_end = os.pipe()
    mine = main.Agent(None, Lines(read), write_end)

    mine._cool()

    os.close(read)
    os.close(write_end)
    assert mine.waited_s == waited
