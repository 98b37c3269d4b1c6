"""Identify the process that holds a lock by the line in the lock file. Part of the agent: standard library only.

own()               the line for the lock file of this process
stopped(line)       whether that process exists and is stopped (SIGSTOP), so that it cannot end itself
end(line)           kill that process, but not a later process with the same number
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

_STARTED, _STATE = 19, 0  # fields of /proc/PID/stat, counted after the name of the program


def own() -> str:
    return _line(os.getpid())


def stopped(line: str) -> bool:
    pid = _pid(line)
    return pid is not None and _fields(pid)[_STATE] in "Tt"


def end(line: str) -> None:
    """Kill the process of that line; its children end with it. Do nothing if /proc does not identify the process."""
    pid = _pid(line)
    if pid is not None and pid != os.getpid():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _pid(line: str) -> int | None:
    number = line.split(" ")[0]
    pid = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None
    return pid if pid is not None and _line(pid) == line else None


def _line(pid: int) -> str:
    """The process number, start time and boot id. The kernel reuses numbers, but not all three together."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{pid} {_fields(pid)[_STARTED]} {boot}"
    except (OSError, IndexError):
        return ""


def _fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
