"""Named onnxruntime settings, each for one thing a user wants.

    latency   onnxruntime's defaults: weights are packed again at load, memory is kept, idle threads spin
    memory    one copy of each weight and no arena that keeps freed memory; 10 to 35 % slower at batch 1
    battery   threads sleep between runs instead of spinning; longer runs when threads > 1
"""  # fmt: skip

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime as ort

from edgefc.errors import UsageError

# Attributes of SessionOptions have plain names, its config entries dotted ones.
PRESETS: Mapping[str, Mapping[str, str | bool]] = {
    "latency": {},
    "memory": {"session.disable_prepacking": "1", "enable_cpu_mem_arena": False},
    "battery": {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"},
}

CPU_ONLY: Mapping[str, Any] = {"providers": ["CPUExecutionProvider"], "enable_fallback": 0}
"""Of an InferenceSession. The fallback loads a model a second time after some errors, and prints a banner."""

MOST_THREADS = 256
_FATAL = 4  # log severity: errors reach the user as exceptions, so nothing else needs printing


def settings(preset: str, threads: int) -> dict[str, str | bool | int]:
    """Everything that a preset and a thread count set, by onnxruntime's own names."""
    if preset not in PRESETS:
        raise UsageError(f"there is no preset {preset!r}. Choose one of: {', '.join(PRESETS)}.")
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise UsageError(f"threads is {threads!r}, which is no count of threads. Give a whole number from 1.")
    if threads > MOST_THREADS:
        raise UsageError(f"threads is {threads}, above {MOST_THREADS}. Give about as many as there are cores.")
    return {"intra_op_num_threads": threads, **PRESETS[preset]}


def session_options(chosen: Mapping[str, str | bool | int]) -> Any:
    """SessionOptions with these settings, silent."""
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    for name, value in chosen.items():
        if "." in name:
            options.add_session_config_entry(name, str(value))
        else:
            setattr(options, name, value)
    return options
