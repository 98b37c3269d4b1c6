"""Run .onnx files with onnxruntime, and measure what they cost. Never needs torch.

    session.py    Session: checks an .onnx file and its feeds, and runs the file with onnxruntime
    options.py    SessionOptions; presets.py: the onnxruntime settings of each preset
    inputs.py     random feeds, and feeds from .npz files; signature.py: checks feeds against the model's inputs
    graph.py      reads the graph of a file; operators.py: finds operators that need special treatment
    failures.py   converts onnxruntime's errors to sentences
    probes/       measurements that run in a child process or on a board
    profiling/    profile(): request -> probes -> record -> table
    native/       kernels for edgefc nodes, compiled if there is a compiler; Session loads them

Session needs numpy and onnxruntime. The other names below need the extra [measure]. All are imported on first use.

The modules of this folder import neither probes/ nor profiling/. runtime/ and export/ do not import each other: their
only interface is the .onnx file. devices/ imports this folder.

onnxruntime 1.31 reads the environment variable ORT_DISABLE_TELEMETRY when it is imported. If it is not 1, onnxruntime
writes an identifier of the device and queued events below the home folder. The edgefc command and the children of
profile() set it to 1 unless it is already set. A program that imports Session must set it before the import:

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
