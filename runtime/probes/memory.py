"""Child: the bytes this process holds before, while and after one model loads and runs once. Nothing is timed here.

The source is /proc/self/status: RssAnon, RssFile (with RssShmem) and the kernel's own high-water mark VmHWM, which
writing 5 to /proc/self/clear_refs sets back to the present. The kernel counts pages per CPU and may be late by some
tens of them on machines with many cores.
"""

from __future__ import annotations

from pathlib import Path

from edgefc.runtime.inputs import feeds_for
from edgefc.runtime.probes.contracts import Memory, MemoryAnswer, MemoryQuestion, Stage
from edgefc.runtime.probes.opening import opened

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_KIB = 1024
SLACK_BYTES = 1 << 20  # bytes that the kernel's counters may disagree by


def measure(asked: MemoryQuestion) -> MemoryAnswer:
    if not _STATUS.exists():
        return MemoryAnswer(None, "this system has no /proc/self/status, which memory is read from")
    reset = _reset_peak()
    imported = stage()
    session = opened(asked.model)
    loaded = stage()
    kept = session.bound(feeds_for(session.inputs, asked.wanted)[0])()
    ran, status = stage(), _status()
    del kept
    return checked(Memory(
        imported=imported, loaded=loaded, ran=ran, peak_bytes=status["VmHWM"], peak_reset=reset,
        swapped_bytes=status.get("VmSwap", 0),
    ))  # fmt: skip


def stage() -> Stage:
    status = _status()
    return Stage(status["RssAnon"], status["RssFile"] + status.get("RssShmem", 0))


def checked(found: Memory) -> MemoryAnswer:
    """`found`, or the reason why it cannot be true."""
    for name, held in (("imported", found.imported), ("loaded", found.loaded), ("ran", found.ran)):
        if held.held_bytes <= 0:
            return MemoryAnswer(None, f"the kernel reported {held.held_bytes} bytes for a running process")
        if found.peak_bytes + SLACK_BYTES < held.held_bytes:
            sizes = f"a peak of {found.peak_bytes} bytes below {held.held_bytes} held ({name})"
            return MemoryAnswer(None, f"the kernel reported {sizes}")
    return MemoryAnswer(found, None)


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


question, answer = MemoryQuestion, measure
