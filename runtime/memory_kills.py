"""How many processes this machine's kernel has killed for lack of memory. Standard library only: the agent uses it.

A difference of two counts says whether a process that was killed in between can have been one of them.
"""

from __future__ import annotations

from pathlib import Path

_VMSTAT = Path("/proc/vmstat")  # any user may read it; oom_kill also counts those in containers with a limit


def count() -> int | None:
    """Since the machine started; None where the kernel does not tell."""
    try:
        lines = _VMSTAT.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
