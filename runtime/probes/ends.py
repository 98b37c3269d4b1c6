"""Why a child process ended without an answer, by its exit code, its stderr and the counters of the kernel."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from edgefc.errors import shortened

_CGROUP, _CGROUPS, _VMSTAT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"), Path("/proc/vmstat")
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS")

_NO_MEMORY = "needs more memory than is available. Give a smaller batch."
_MEMORY = re.compile(r"\bMemoryError\b|bad_alloc|Cannot allocate memory|Unable to allocate|out of memory", re.I)
_FILES = re.compile(r"Too many open files")
_THREADS = re.compile(r"can't start new thread|Resource temporarily unavailable|pthread_create")

# What Python's faulthandler prints about a crash, and where in onnxruntime's Python code it happened.
_DUMP = re.compile(r"^(?:Fatal Python error: |Current thread 0x|Thread 0x|  File |  <|Extension modules: )")
_IN_RUN = re.compile(r'onnxruntime_inference_collection\.py", line \d+ in run')
_IN_LOAD = re.compile(r'onnxruntime_inference_collection\.py", line \d+ in _create_inference_session')

_RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning)\b(?:: .*)?$")
_REASONS = (
    re.compile(r"^\s*what\(\):\s*(.+)$"),  # a C++ exception
    re.compile(r"^=+\d*=*\s*(ERROR: \w+Sanitizer.*)$"),
    re.compile(r"^(terminate called .*)$"),
)
_NO_REASON = re.compile(r"^(?:Aborted|Segmentation fault|Bus error|Illegal instruction)?(?: ?\(core dumped\))?$")


def oom_kills() -> int | None:
    """How many processes of this control group the out-of-memory killer has ended. None if it is unknown."""
    return next((count for path in _counters() if (count := _count(path)) is not None), None)


def machine_oom_kills() -> int | None:
    """How many processes of this machine the out-of-memory killer has ended since the machine started."""
    return _count(_VMSTAT)


def _count(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _counters() -> list[Path]:
    """The files with counters, the most specific first: the control group (version 2, version 1), then the machine."""
    paths = []
    try:
        lines = _CGROUP.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            paths += [_CGROUPS / group.lstrip("/") / "memory.events", _CGROUPS / "memory.events"]
        elif "memory" in controllers.split(","):
            memory = _CGROUPS / "memory"
            paths += [memory / group.lstrip("/") / "memory.oom_control", memory / "memory.oom_control"]
    return [*paths, _VMSTAT]


def why(code: int, stderr: str, oom_kills_before: int | None) -> str:
    """The part of the message after the model's name. `code` is the exit code, or minus the number of the signal."""
    if code < 0:
        return _by_signal(-code, stderr, oom_kills_before)
    reason = reason_in(stderr)
    if _MEMORY.search(reason):
        return _NO_MEMORY
    if _FILES.search(reason):
        return "needs more open files than the system allows. Raise the limit: ulimit -n 1024."
    if _THREADS.search(reason):
        return "needs more threads than the system allows. Raise the limit: ulimit -u 1024."
    return f"failed in a child process: {reason or f'exit code {code}'}. This is a fault of edgefc; please report it."


def _by_signal(number: int, stderr: str, oom_kills_before: int | None) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if name == "SIGKILL":
        return _killed(oom_kills_before)
    if name == "SIGXCPU":
        return "used all the CPU time that this shell allows. Raise the limit: ulimit -t unlimited."
    if name not in _CRASHES:
        return f"was ended with {name} by another process. Run it again."
    reason = reason_in(stderr)
    if _MEMORY.search(reason):
        return _NO_MEMORY
    where = " while onnxruntime ran it" if _IN_RUN.search(stderr) else ""
    where = where or (" while onnxruntime loaded it" if _IN_LOAD.search(stderr) else "")
    advice = "Try another version of onnxruntime." if where else "Run it again; please report it if it happens again."
    return f"crashed with {name}{where}{f': {reason}' if reason else ''}. {advice}"


def _killed(before: int | None) -> str:
    after = oom_kills()
    if before is None or after is None:
        return "was ended with SIGKILL, and this system does not report why. Run it again."
    if after > before:
        return "was ended by the system's out-of-memory killer. Give a smaller batch."
    return "was ended with SIGKILL, but not by the system's out-of-memory killer. Run it again."


def reason_in(stderr: str) -> str:
    """The line with the reason, without a full stop: that of a C++ exception, sanitizer or Python exception.

    Without one, it is the last line.
    """
    lines = [line.rstrip() for line in stderr.splitlines()]
    lines = [line for line in lines if not _DUMP.match(line) and not _NO_REASON.match(line.strip())]
    for pattern in _REASONS:
        for line in lines:
            if match := pattern.match(line):
                return _tidy(match[1])
    raised = [line for line in lines if _RAISED.match(line)]
    if raised:
        return _tidy(raised[-1])
    return _tidy(lines[-1]) if lines else ""


def _tidy(text: str) -> str:
    return shortened(text.strip().rstrip("."))
