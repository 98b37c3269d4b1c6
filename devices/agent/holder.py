"""The process that holds a lock, by what it wrote into the lock's file. Part of the agent: standard library only.

own()               this process since its start, in a line for the file
stopped(line)       whether that process is there and stopped (SIGSTOP): it will not end by itself
end(line)           kill that process, and no other one that has its number now
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

_STARTED, _STATE = 19, 0  # fields of /proc/PID/stat behind the name of the program


def own() -> str:
    return _line(os.getpid())


def stopped(line: str) -> bool:
    pid = _pid(line)
    return pid is not None and _fields(pid)[_STATE] in "Tt"


def end(line: str) -> None:
    """Its children end with it. Nothing happens where /proc does not tell which process it is."""
    pid = _pid(line)
    if pid is not None and pid != os.getpid():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _pid(line: str) -> int | None:
    number = line.split(" ")[0]
    pid = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None
    return pid if pid is not None and _line(pid) == line else None


def _line(pid: int) -> str:
    """Numbers of processes come again; with the start and the machine's own start they do not."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{pid} {_fields(pid)[_STARTED]} {boot}"
    except (OSError, IndexError):
        return ""


def _fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
