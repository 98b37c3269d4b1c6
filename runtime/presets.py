"""Named onnxruntime settings, each optimised for one goal.

    latency   onnxruntime's defaults: weights are packed at load, freed memory is kept, idle threads spin
    memory    one copy of each weight (no packing), no arena that keeps freed memory; 10 to 35 % slower at batch 1
    battery   threads sleep between runs instead of spinning; slower if threads > 1
"""  # fmt: skip

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime as ort

from edgefc.errors import UsageError

# Names without a dot are attributes of SessionOptions, names with a dot its config entries.
PRESETS: Mapping[str, Mapping[str, str | bool]] = {
    "latency": {},
    "memory": {"session.disable_prepacking": "1", "enable_cpu_mem_arena": False},
    "battery": {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"},
}

CPU_ONLY: Mapping[str, Any] = {"providers": ["CPUExecutionProvider"], "enable_fallback": 0}
"""Arguments of InferenceSession. The fallback would load a model again after some errors, and print a banner."""

MOST_THREADS = 256
_FATAL = 4  # log severity: onnxruntime raises errors as exceptions, so it need not print them


def settings(preset: str, threads: int) -> dict[str, str | bool | int]:
    """All settings of a preset and a thread count, by onnxruntime's names.

    Raises:
        UsageError: the preset does not exist, or threads is not between 1 and MOST_THREADS.
    """
    if preset not in PRESETS:
        raise UsageError(f"there is no preset {preset!r}. Choose one of: {', '.join(PRESETS)}.")
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise UsageError(f"threads is {threads!r}, which is not a number of threads. Give a positive integer.")
    if threads > MOST_THREADS:
        raise UsageError(f"threads is {threads}, above {MOST_THREADS}. Give about the number of CPU cores.")
    return {"intra_op_num_threads": threads, **PRESETS[preset]}


def session_options(chosen: Mapping[str, str | bool | int]) -> Any:
    """onnxruntime's SessionOptions with these settings. The session prints no errors."""
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    for name, value in chosen.items():
        if "." in name:
            options.add_session_config_entry(name, str(value))
        else:
            setattr(options, name, value)
    return options
