"""check(): what a device has and lacks, one line each. A line about a problem has the command that fixes it."""

import time
from dataclasses import dataclass
from typing import Any

from edgefc.devices.agent.answers import Facts
from edgefc.devices.agent.main import HOT_C
from edgefc.devices.board.client import Board
from edgefc.devices.connect import HERE
from edgefc.devices.profiles import profile as profiles
from edgefc.devices.transports.base import Transport
from edgefc.releases import is_wrong
from edgefc.runtime.probes.heat import Heat

OLDEST = {"Python": (3, 9), "numpy": (1, 21), "onnxruntime": (1, 17)}
MEMORY_FREE, DISK_FREE = 128 << 20, 256 << 20  # bytes; `edgefc devices check` reports less as missing
CLOCK_S = 120.0


@dataclass(frozen=True)
class Line:
    """One property of a device.

    state is "ok", "missing" (measuring is impossible), "slow" (measurements are affected) or "unknown". value is what
    the device reports. fix is the command or advice for a problem, or "".
    """

    what: str
    state: str
    value: str
    fix: str = ""


@dataclass(frozen=True)
class Report:
    """All lines about one device. notes name the transports and devices that edgefc was never tested with."""

    device: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        return all(line.state != "missing" for line in self.lines)


def check(transport: Transport, profile: str | None = None) -> Report:
    """Connect to the device and ask the agent for its facts.

    Raises:
        DeviceError: the device cannot be reached, has no Python, or returns an invalid answer.
    """
    start = time.time()
    with Board(transport) as board:
        facts = facts_of(board)
        middle = (start + time.time()) / 2
    return report(transport, profile, facts, middle, time.time() - start)


def facts_of(board: Board) -> Facts:
    """The agent's facts, checked for their types and sizes."""
    return board.answers.read(Facts, board.call("check"))


def report(transport: Transport, profile: str | None, facts: Facts, now_s: float, within_s: float) -> Report:
    """The lines for `facts`. now_s is the time on this machine when the facts were read, exact to within_s seconds."""
    name = transport.name
    provision = f"edgefc devices provision {name}"
    if name in HERE:
        provision = "pip install edgefc; the native kernels need a C++ compiler"
    lines = [
        Line("Python", "ok", facts.python)
        if version(facts.python) >= OLDEST["Python"]
        else Line("Python", "missing", facts.python, "install Python 3.9 or later: sudo apt install python3"),
        _package("numpy", facts.numpy, facts.numpy_missing, provision),
        _package("onnxruntime", facts.onnxruntime, facts.onnxruntime_missing, provision),
        Line("native kernels", "ok", f"for {facts.machine}")
        if facts.native
        else Line("native kernels", "slow", "none: portable bodies run", provision),
        _space("memory free", facts.memory_free_bytes, MEMORY_FREE, "end other programs on the device"),
        _space(
            "disk free",
            facts.disk_free_bytes,
            DISK_FREE,
            "free some space, or set XDG_CACHE_HOME to a folder on a larger disk",
        ),
        _governor(facts.governor),
        _heat(facts.heat),
        _clock(facts.clock_s - now_s, within_s),
    ]
    if profile is not None:
        lines.append(_kind(profile, facts))
    return Report(name, tuple(lines), _notes(transport, profile))


def version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: (1, 31, 1) for "1.31.1", and (1, 31) for "1.31.rc1"."""
    parts: list[int] = []
    for part in text.split("."):
        if not (part.isascii() and part.isdigit()):
            break
        parts.append(int(part))
    return tuple(parts)


def problem_of(name: str, installed: str) -> str | None:
    """Why a version of numpy or onnxruntime cannot be used, or None."""
    if version(installed) < OLDEST[name]:
        return "too old"
    return "computes wrong numbers" if name == "onnxruntime" and is_wrong(installed) else None


def _package(name: str, installed: str | None, reason: str | None, fix: str) -> Line:
    if installed is None:
        return Line(name, "missing", reason or "not installed", fix)
    if problem := problem_of(name, installed):
        return Line(name, "missing", f"{installed}, {problem}", fix)
    return Line(name, "ok", installed)


def _space(what: str, free: int | None, least: int, fix: str) -> Line:
    if free is None:
        return Line(what, "unknown", "the system does not report it")
    size = f"{free / 2**20:,.0f} MiB"
    return Line(what, "ok", size) if free >= least else Line(what, "missing", f"{size}, {least >> 20} MiB needed", fix)


def _governor(governor: str | None) -> Line:
    if governor is None:
        return Line("governor", "unknown", "the kernel does not expose cpufreq")
    if governor == "performance":
        return Line("governor", "ok", governor)
    fix = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    return Line("governor", "slow", f"{governor}: the clock frequency can change while measuring", fix)


def _heat(heat: Heat) -> Line:
    if heat.throttled:
        return Line(
            "temperature", "slow", "throttled now, by heat or low power", "cool it, and use a stronger power supply"
        )
    if heat.temperature_c is None:
        return Line("temperature", "unknown", heat.missing.get("temperature_c", "the system does not report it"))
    value = f"{heat.temperature_c:.0f} C"
    if heat.temperature_c < HOT_C:
        return Line("temperature", "ok", value)
    return Line("temperature", "slow", value, "wait until it has cooled")


def _clock(off_s: float, within_s: float) -> Line:
    if abs(off_s) <= CLOCK_S + within_s:
        return Line("clock", "ok", "agrees with this machine")
    side = "ahead" if off_s > 0 else "behind"
    size = f"{abs(off_s) / 86400:.0f} days" if abs(off_s) >= 86400 else f"{abs(off_s) / 60:.0f} minutes"
    return Line("clock", "slow", f"{size} {side}: records use this machine's date", "sudo timedatectl set-ntp true")


def _kind(key: str, facts: Facts) -> Line:
    """Whether the device has as many cores as its profile in the inventory."""
    kind = profiles.load(key)
    cores = sum(cluster.cores.value for cluster in kind.clusters)
    if cores and facts.cores is not None and facts.cores != cores:
        return Line(
            "profile",
            "slow",
            f"{kind.name} has {cores} cores, this device has {facts.cores}",
            "add it with its own profile",
        )
    return Line("profile", "ok", kind.name)


def _notes(transport: Transport, profile: str | None) -> tuple[str, ...]:
    notes = [*transport.notes]
    if profile is not None and profiles.load(profile).kind in ("board", "phone", "laptop"):
        notes.append(f"edgefc was never tested on a real {profiles.load(profile).name}")
    return tuple(notes)


def as_json(report: Report) -> dict[str, Any]:
    return {
        "device": report.device, "complete": report.complete, "notes": list(report.notes),
        "lines": [vars(line) for line in report.lines],
    }  # fmt: skip
