"""Run .onnx files with onnxruntime, and measure what they cost. Needs numpy and onnxruntime, never torch.

    session.py    Session: a checked, preset onnxruntime session
    profiler.py   profile(): load, first run, steady state and memory of one or more models
    runner.py     where the probes run: on this machine, or on a device
    record.py     Record: what profile() returns, and its file format (parts.py has its sections)
    record_file.py  RecordFile: the file of a record that grows while models are measured
    table.py      show(): a record for people
    native/       kernels for edgefc nodes, compiled where there is a compiler; Session loads them
    child.py      asks a child process; ends.py says why one ended without an answer
    probe.py      the start of a child process: it ends with its parent, and at its time limit
    probe_*.py    what children answer; they import the standard library, numpy and onnxruntime only

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
    "profile": "edgefc.runtime.profiler",
    "Record": "edgefc.runtime.record",
    "Report": "edgefc.runtime.record",
    "Model": "edgefc.runtime.request",
}

__all__ = ["Session", "profile", "Record", "Report", "Model"]

if TYPE_CHECKING:
    from edgefc.runtime.profiler import profile as profile
    from edgefc.runtime.record import Record as Record
    from edgefc.runtime.record import Report as Report
    from edgefc.runtime.request import Model as Model
    from edgefc.runtime.session import Session as Session


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'edgefc.runtime' has no attribute {name!r}")
    return getattr(importlib.import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
