"""Run .onnx files with onnxruntime, and measure what they cost. Never needs torch.

    session.py    Session: a checked, preset onnxruntime session. options.py: how it runs, as one value. inputs.py,
                  signature.py, presets.py, operators.py, graph.py and failures.py: what it is fed, what a file asks
                  for, and what onnxruntime says
    probes/       measurements that run in a child process or on a board
    profiling/    profile(): request -> probes -> record -> table
    native/       kernels for edgefc nodes, compiled where there is a compiler; Session loads them

Session needs numpy and onnxruntime. The other names below need the extra [measure]. All are imported on first use.

Files of this folder import neither probes/ nor profiling/. A file is the only way in from export/: neither folder
imports the other. devices/ imports this folder.

onnxruntime 1.31 reads the environment variable ORT_DISABLE_TELEMETRY when it is imported. Where it is not set to 1, it
writes an identifier of the device and queued events below the home folder. The edgefc command and the children of
profile() set it, unless it is set already. A program that imports Session sets it itself, before the import:

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
"""  # fmt: skip

from typing import TYPE_CHECKING

from edgefc.lazy import lazy

if TYPE_CHECKING:
    from edgefc.runtime.profiling.profiler import profile as profile
    from edgefc.runtime.profiling.record import Record as Record
    from edgefc.runtime.profiling.record import Report as Report
    from edgefc.runtime.profiling.request import Model as Model
    from edgefc.runtime.session import Session as Session

_NAMES = {
    "Model": "edgefc.runtime.profiling.request",
    "Record": "edgefc.runtime.profiling.record",
    "Report": "edgefc.runtime.profiling.record",
    "Session": "edgefc.runtime.session",
    "profile": "edgefc.runtime.profiling.profiler",
}

__all__ = [
    "Model",
    "Record",
    "Report",
    "Session",
    "profile",
]

if not TYPE_CHECKING:  # type checkers know the names above only
    __getattr__, __dir__ = lazy(__name__, _NAMES, "measure")
