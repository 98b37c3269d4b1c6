"""edgefc devices check: each lack in a line with the command that fixes it, and answers that cannot be."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from edgefc.cli import main
from edgefc.devices import inventory
from edgefc.devices.agent.answers import Facts
from edgefc.devices.board.check import Line, check, facts_of, report, version
from edgefc.devices.board.client import answers_of
from edgefc.devices.transports.adb import AdbTransport
from edgefc.devices.transports.local import LocalTransport
from edgefc.errors import DeviceError
from edgefc.runtime import native
from edgefc.runtime.probes.plain import read
from tests.support.boards import bare, home
from tests.support.json_schema import assert_valid

NOW = 1.8e9
GOOD: dict[str, Any] = {
    "python": "3.11.2", "machine": "aarch64", "os": "Linux", "libc": "glibc 2.36", "numpy": "1.26.4",
    "numpy_missing": None, "onnxruntime": "1.22.0", "onnxruntime_missing": None, "native": True, "cores": 4,
    "memory_bytes": 4 << 30, "memory_free_bytes": 3 << 30, "disk_free_bytes": 9 << 30, "governor": "performance",
    "heat": {"temperature_c": 48.3, "frequency_hz": 2_400_000_000, "throttled": False, "missing": {}},
    "clock_s": NOW, "pip": True,
}  # fmt: skip


def line(what: str, profile: str | None = None, **changed: Any) -> Line:
    facts = read(Facts, {**GOOD, **changed})
    (found,) = [each for each in report(LocalTransport("pi"), profile, facts, NOW, 1.0).lines if each.what == what]
    return found


def test_a_board_that_lacks_nothing() -> None:
    found = report(LocalTransport("pi"), "pi5", read(Facts, GOOD), NOW, 1.0)

    assert found.complete and {each.state for each in found.lines} == {"ok"}
    assert all(each.fix == "" for each in found.lines)
    assert found.notes == ("edgefc was never tested on a real Raspberry Pi 5",)


@pytest.mark.parametrize(
    ("what", "changed", "state", "found", "fix"),
    [
        ("Python", {"python": "3.8.10"}, "missing", "3.8.10", "install Python 3.9 or later: sudo apt install python3"),
        ("numpy", {"numpy": None, "numpy_missing": "No module named 'numpy'"}, "missing", "No module named 'numpy'",
         "edgefc devices provision pi"),
        ("numpy", {"numpy": "1.19.5"}, "missing", "1.19.5, too old", "edgefc devices provision pi"),
        ("onnxruntime", {"onnxruntime": "1.16.3"}, "missing", "1.16.3, too old", "edgefc devices provision pi"),
        ("onnxruntime", {"onnxruntime": "1.27.0"}, "missing", "1.27.0, computes wrong numbers",
         "edgefc devices provision pi"),
        ("onnxruntime", {"onnxruntime": None, "onnxruntime_missing": None}, "missing", "not installed",
         "edgefc devices provision pi"),
        ("native kernels", {"native": False}, "slow", "none: portable bodies run", "edgefc devices provision pi"),
        ("memory free", {"memory_free_bytes": 64 << 20}, "missing", "64 MiB, 128 MiB needed",
         "end other programs on the device"),
        ("memory free", {"memory_free_bytes": None}, "unknown", "the system does not report it", ""),
        ("disk free", {"disk_free_bytes": 1 << 20}, "missing", "1 MiB, 256 MiB needed",
         "free some space, or set XDG_CACHE_HOME to a folder on a larger disk"),
        ("governor", {"governor": "ondemand"}, "slow", "ondemand: the clock frequency can change while measuring",
         "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"),
        ("governor", {"governor": None}, "unknown", "the kernel does not expose cpufreq", ""),
        ("temperature", {"heat": {**GOOD["heat"], "temperature_c": 71.0}}, "slow", "71 C", "wait until it has cooled"),
        ("temperature", {"heat": {**GOOD["heat"], "throttled": True}}, "slow", "throttled now, by heat or low power",
         "cool it, and use a stronger power supply"),
        ("clock", {"clock_s": NOW - 366 * 86400}, "slow", "366 days behind: records use this machine's date",
         "sudo timedatectl set-ntp true"),
        ("clock", {"clock_s": NOW + 600}, "slow", "10 minutes ahead: records use this machine's date",
         "sudo timedatectl set-ntp true"),
        ("clock", {"clock_s": NOW - 100}, "ok", "agrees with this machine", ""),
    ],
)  # fmt: skip
def test_each_lack(what: str, changed: dict[str, Any], state: str, found: str, fix: str) -> None:
    assert line(what, **changed) == Line(what, state, found, fix)


def test_a_board_of_another_kind() -> None:
    assert line("profile", "pi5", cores=8).value == "Raspberry Pi 5 has 4 cores, this device has 8"


def test_what_was_not_tried_on_a_phone_is_said() -> None:
    found = report(AdbTransport("phone", "SERIAL"), "oneplus-5", read(Facts, GOOD), NOW, 1.0)

    assert found.notes == ("adb: not tested on a phone", "edgefc was never tested on a real OnePlus 5")


@pytest.mark.parametrize(
    ("text", "parts"),
    [("1.31.1", (1, 31, 1)), ("3.13.0rc1", (3, 13)), ("", ()), ("devel", ()), ("1.18.0.dev2", (1, 18, 0))],
)
def test_versions(text: str, parts: tuple[int, ...]) -> None:
    assert version(text) == parts


class Answering:
    """A board that answers "check" with anything."""

    name = "pi"

    def __init__(self, answer: object) -> None:
        self.answer, self.answers = answer, answers_of("pi")

    def call(self, do: str) -> object:
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        None, [], {}, {**GOOD, "cores": -1}, {**GOOD, "disk_free_bytes": "many"}, {**GOOD, "speed": 1},
        {**GOOD, "python": "x" * 400}, {**GOOD, "heat": {}}, {**GOOD, "clock_s": 1e300},
    ],
    ids=["none", "list", "empty", "negative", "text", "more", "long", "heat", "year"],
)  # fmt: skip
def test_answers_that_cannot_be(answer: object) -> None:
    with pytest.raises(DeviceError, match=r"^pi returned an invalid answer \(.*\)\. The answer was discarded"):
        facts_of(Answering(answer))  # type: ignore[arg-type]


def test_a_real_agent_on_a_python_without_packages(tmp_path: Path) -> None:
    found = check(bare(tmp_path))

    assert not found.complete
    states = {each.what: each.state for each in found.lines}
    assert (states["Python"], states["numpy"], states["onnxruntime"]) == ("ok", "missing", "missing")
    assert [each.value for each in found.lines if each.what == "numpy"] == [
        "ModuleNotFoundError: No module named 'numpy'"
    ]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By an agent on this machine: 0 where all is there, 1 where something is missing, 3 where nothing answers."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    inventory.add("pi", inventory.Device(profile="pi5", transport="ssh", address="pi"))
    boards = [
        LocalTransport("pi", environment=home(tmp_path / "home")), bare(tmp_path),
        LocalTransport("pi", python="false"),
    ]  # fmt: skip
    monkeypatch.setattr("edgefc.devices.connect.transport", lambda name: boards.pop(0))

    assert main(["devices", "check", "pi", "--json", str(tmp_path / "c.json")]) == 0
    out, told = capsys.readouterr().out, json.loads((tmp_path / "c.json").read_text())
    assert (
        re.search(r"^numpy +ok +[\d.]+ *$", out, re.M)
        and "note: edgefc was never tested on a real Raspberry Pi 5" in out
    )
    assert_valid(tmp_path / "c.json", "devices check")
    assert told["complete"] is True and told["lines"][0]["what"] == "Python"
    assert main(["devices", "check", "pi"]) == 1
    assert re.search(r"^onnxruntime +missing +.* +edgefc devices provision bare *$", capsys.readouterr().out, re.M)
    assert main(["devices", "check", "pi"]) == 3
    assert capsys.readouterr().err.startswith("edgefc devices: pi ended the session (exit 1) before the agent")


def test_this_machine_is_checked_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its native kernels are those that a profile uses here."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    assert main(["devices", "check", "local"]) == 0
    found = re.search(r"^native kernels +(\w+) ", capsys.readouterr().out, re.M)
    assert found and found[1] == ("ok" if native.choose("auto") else "slow")


def test_a_browser_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CHROME", "/nowhere/chromium")
    monkeypatch.setattr("edgefc.devices.browser.onnxruntime_web.files", dict)

    assert main(["devices", "check", "web"]) == 1
    out = capsys.readouterr().out
    assert re.search(
        r"^browser +missing +CHROME is '/nowhere/chromium', which is not a program\..* apt install", out, re.M
    )
    assert re.search(r"^onnxruntime-web +ok ", out, re.M) and "page" not in out.split("note:")[0]
