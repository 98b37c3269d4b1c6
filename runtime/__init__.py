"""Run .onnx files with onnxruntime, and measure what they cost. Needs numpy and onnxruntime, never torch.

    session.py    Session: a checked, preset onnxruntime session. options.py: how it runs, as one value. inputs.py,
                  signature.py, presets.py, operators.py, graph.py and failures.py: what it is fed, what a file asks
                  for, and what onnxruntime says
    probes/       measurements that run in a child process or on a board
    profiling/    profile(): request -> probes -> record -> table
    native/       kernels for edgefc nodes, compiled where there is a compiler; Session loads them

Files of this folder import neither probes/ nor profiling/. A file is the only way in from export/: neither folder
imports the other. devices/ imports this folder.

onnxruntime 1.31 reads the environment variable ORT_DISABLE_TELEMETRY when it is imported. Where it is not set to 1, it
writes an identifier of the device and queued events below the home folder. The edgefc command and the children of
profile() set it, unless it is set already. A program that imports Session sets it itself, before the import:

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
"""  # fmt: skip

import importlib
from typing import TYPE_CHECKING, Any

# Imported on first use: a probe that counts bytes must not carry pydantic.
_NAMES = {
    "Session": "edgefc.runtime.session",
    "profile": "edgefc.runtime.profiling.profiler",
    "Record": "edgefc.runtime.profiling.record",
    "Report": "edgefc.runtime.profiling.record",
    "Model": "edgefc.runtime.profiling.request",
}

__all__ = ["Session", "profile", "Record", "Report", "Model"]

if TYPE_CHECKING:
    from edgefc.runtime.profiling.profiler import profile as profile
    from edgefc.runtime.profiling.record import Record as Record
    from edgefc.runtime.profiling.record import Report as Report
    from edgefc.runtime.profiling.request import Model as Model
    from edgefc.runtime.session import Session as Session


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'edgefc.runtime' has no attribute {name!r}")
    return getattr(importlib.import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
