"""check(): what a device has and lacks, line by line, each lack with the command that fixes it."""

import time
from dataclasses import dataclass
from typing import Any

from edgefc.devices.agent.answers import Facts
from edgefc.devices.agent.main import HOT_C
from edgefc.devices.board.client import Board
from edgefc.devices.connect import HERE
from edgefc.devices.profiles import profile as profiles
from edgefc.devices.transports.base import Transport
from edgefc.runtime.probes.heat import Heat

OLDEST = {"Python": (3, 9), "numpy": (1, 21), "onnxruntime": (1, 17)}
MEMORY_FREE, DISK_FREE = 128 << 20, 256 << 20  # bytes below which a profile is not begun
CLOCK_S = 120.0


@dataclass(frozen=True)
class Line:
    """One thing: state is "ok", "missing" (nothing is measured without it), "slow" (results suffer) or "unknown"."""

    what: str
    state: str
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Report:
    """All lines about one device, and what of this way to reach it was never tried."""

    device: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        return all(line.state != "missing" for line in self.lines)


def check(transport: Transport, profile: str | None = None) -> Report:
    """Connect and ask.

    Raises:
        DeviceError: it cannot be reached, lacks Python, or returns an invalid answer.
    """
    start = time.time()
    with Board(transport) as board:
        facts = facts_of(board)
        middle = (start + time.time()) / 2
    return report(transport, profile, facts, middle, time.time() - start)


def facts_of(board: Board) -> Facts:
    """The agent's facts, held to their types and sizes."""
    return board.answers.read(Facts, board.call("check"))


def report(transport: Transport, profile: str | None, facts: Facts, now_s: float, within_s: float) -> Report:
    """`facts` as lines. now_s is this machine's clock when they were asked, known to within_s."""
    name = transport.name
    provision = f"edgefc devices provision {name}"
    if name in HERE:
        provision = "pip install edgefc, with a C++ compiler at hand for the kernels"
    lines = [
        Line("Python", "ok", facts.python)
        if version(facts.python) >= OLDEST["Python"]
        else Line("Python", "missing", facts.python, "sudo apt install python3, of 3.9 or later"),
        _package("numpy", facts.numpy, facts.numpy_missing, provision),
        _package("onnxruntime", facts.onnxruntime, facts.onnxruntime_missing, provision),
        Line("native kernels", "ok", f"for {facts.machine}")
        if facts.native
        else Line("native kernels", "slow", "none: portable bodies run", provision),
        _room("memory free", facts.memory_free_bytes, MEMORY_FREE, "end other programs there"),
        _room(
            "disk free", facts.disk_free_bytes, DISK_FREE, "remove files there, or set XDG_CACHE_HOME to a larger disk"
        ),
        _governor(facts.governor),
        _heat(facts.heat),
        _clock(facts.clock_s - now_s, within_s),
    ]
    if profile is not None:
        lines.append(_kind(profile, facts))
    return Report(name, tuple(lines), _notes(transport, profile))


def version(text: str) -> tuple[int, ...]:
    """(1, 31, 1) of "1.31.1"; what follows the first part that is no number is left out."""
    parts: list[int] = []
    for part in text.split("."):
        if not (part.isascii() and part.isdigit()):
            break
        parts.append(int(part))
    return tuple(parts)


def _package(name: str, found: str | None, reason: str | None, mend: str) -> Line:
    if found is None:
        return Line(name, "missing", reason or "not installed", mend)
    if version(found) < OLDEST[name]:
        return Line(name, "missing", f"{found}, too old", mend)
    return Line(name, "ok", found)


def _room(what: str, free: int | None, least: int, mend: str) -> Line:
    if free is None:
        return Line(what, "unknown", "the system does not tell")
    found = f"{free / 2**20:,.0f} MiB"
    return (
        Line(what, "ok", found) if free >= least else Line(what, "missing", f"{found}, of {least >> 20} needed", mend)
    )


def _governor(found: str | None) -> Line:
    if found is None:
        return Line("governor", "unknown", "the kernel shows no cpufreq")
    if found == "performance":
        return Line("governor", "ok", found)
    mend = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    return Line("governor", "slow", f"{found}: clocks change while measuring", mend)


def _heat(heat: Heat) -> Line:
    if heat.throttled:
        return Line("temperature", "slow", "held back now, by heat or power", "cool it, and give it a stronger supply")
    if heat.temperature_c is None:
        return Line("temperature", "unknown", heat.missing.get("temperature_c", "the system does not tell"))
    found = f"{heat.temperature_c:.0f} C"
    return (
        Line("temperature", "ok", found)
        if heat.temperature_c < HOT_C
        else Line("temperature", "slow", found, "let it cool")
    )


def _clock(off_s: float, within_s: float) -> Line:
    if abs(off_s) <= CLOCK_S + within_s:
        return Line("clock", "ok", "agrees")
    side = "ahead" if off_s > 0 else "behind"
    size = f"{abs(off_s) / 86400:.0f} days" if abs(off_s) >= 86400 else f"{abs(off_s) / 60:.0f} minutes"
    return Line("clock", "slow", f"{size} {side}: records bear this machine's date", "sudo timedatectl set-ntp true")


def _kind(key: str, facts: Facts) -> Line:
    """Whether the device is of the kind that the inventory says."""
    kind = profiles.load(key)
    cores = sum(cluster.cores.value for cluster in kind.clusters)
    if cores and facts.cores is not None and facts.cores != cores:
        return Line(
            "profile", "slow", f"{kind.name} has {cores} cores, this has {facts.cores}", "add it with its own profile"
        )
    return Line("profile", "ok", kind.name)


def _notes(transport: Transport, profile: str | None) -> tuple[str, ...]:
    notes = [*transport.notes]
    if profile is not None and profiles.load(profile).kind in ("board", "phone", "laptop"):
        notes.append(f"edgefc was tried on no {profiles.load(profile).name}: none was at hand")
    return tuple(notes)


def as_json(report: Report) -> dict[str, Any]:
    return {
        "device": report.device, "complete": report.complete, "notes": list(report.notes),
        "lines": [vars(line) for line in report.lines],
    }  # fmt: skip
