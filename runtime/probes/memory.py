"""Child: the memory of this process before one model is loaded, after it is loaded and after one run. Nothing is timed.

The values are from /proc/self/status: RssAnon, RssFile (with RssShmem) and the peak VmHWM. Writing 5 to
/proc/self/clear_refs resets the peak to the current value. The kernel counts pages for each CPU, so on a machine with
many cores a value may be outdated by some tens of pages.
"""

from __future__ import annotations

from pathlib import Path

from edgefc.runtime.inputs import feeds_for
from edgefc.runtime.probes.contracts import Memory, MemoryAnswer, MemoryQuestion, Stage
from edgefc.runtime.probes.opening import opened

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_KIB = 1024
SLACK_BYTES = 1 << 20  # bytes; the kernel's counters may differ by this much


def measure(asked: MemoryQuestion) -> MemoryAnswer:
    if not _STATUS.exists():
        return MemoryAnswer(None, "memory is read from /proc/self/status, which this system does not have")
    reset = _reset_peak()
    imported = stage()
    session = opened(asked.model)
    loaded = stage()
    outputs = session.bound(feeds_for(session.inputs, asked.wanted)[0])()
    ran, status = stage(), _status()
    del outputs
    return checked(Memory(
        imported=imported, loaded=loaded, ran=ran, peak_bytes=status["VmHWM"], peak_reset=reset,
        swapped_bytes=status.get("VmSwap", 0),
    ))  # fmt: skip


def stage() -> Stage:
    status = _status()
    return Stage(status["RssAnon"], status["RssFile"] + status.get("RssShmem", 0))


def checked(memory: Memory) -> MemoryAnswer:
    """The memory, or the reason why it is impossible."""
    for name, held in (("imported", memory.imported), ("loaded", memory.loaded), ("ran", memory.ran)):
        if held.held_bytes <= 0:
            return MemoryAnswer(None, f"the kernel reported {held.held_bytes} bytes for a running process")
        if memory.peak_bytes + SLACK_BYTES < held.held_bytes:
            sizes = f"a peak of {memory.peak_bytes} bytes, below the {held.held_bytes} bytes of one stage ({name})"
            return MemoryAnswer(None, f"the kernel reported {sizes}")
    return MemoryAnswer(memory, None)


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
