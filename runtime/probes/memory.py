"""Child: the bytes this process holds before, while and after one model loads and runs once. Nothing is timed here.

Question: model, inputs, shapes, ranges, batch, preset, native, threads.
Answer: Memory's fields, or {"missing": reason}.

The source is /proc/self/status: RssAnon, RssFile (with RssShmem) and the kernel's own high-water mark VmHWM, which
writing 5 to /proc/self/clear_refs sets back to the present. The kernel counts pages per CPU and may be late by some
tens of them on machines with many cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgefc.runtime.inputs import Wanted, feeds_for
from edgefc.runtime.session import open_session

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_KIB = 1024
_SLACK = 1 << 20  # bytes that the kernel's counters may disagree by


def measure(question: dict[str, Any]) -> dict[str, Any]:
    if not _STATUS.exists():
        return {"missing": "this system has no /proc/self/status, which memory is read from"}
    reset = _reset_peak()
    imported = stage()
    session = open_session(question["model"], question)
    loaded = stage()
    kept = session.bound(feeds_for(session.inputs, Wanted.of(question))[0])()
    ran, status = stage(), _status()
    del kept
    return checked({
        "imported": imported, "loaded": loaded, "ran": ran,
        "peak_bytes": status["VmHWM"], "peak_reset": reset, "swapped_bytes": status.get("VmSwap", 0),
    })  # fmt: skip


def stage() -> dict[str, int]:
    status = _status()
    return {"anonymous_bytes": status["RssAnon"], "file_bytes": status["RssFile"] + status.get("RssShmem", 0)}


def checked(found: dict[str, Any]) -> dict[str, Any]:
    """`found`, or the reason why it cannot be true."""
    for name in ("imported", "loaded", "ran"):
        held = sum(found[name].values())
        if held <= 0:
            return {"missing": f"the kernel reported {held} bytes for a running process"}
        if found["peak_bytes"] + _SLACK < held:
            return {"missing": f"the kernel reported a peak of {found['peak_bytes']} bytes below {held} held ({name})"}
    return found


def _reset_peak() -> bool:
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _status() -> dict[str, int]:
    """The sizes in /proc/self/status, in bytes."""
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * _KIB for words in lines if words[-1] == "kB"}


answer = measure
