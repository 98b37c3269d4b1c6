"""torch model -> one .onnx file whose structured layers are `edgefc::` nodes. Needs torch and onnx.

    exporter.py  export(): tracing/ > passes.py > ops/ > saving/ > verifying/
    tracing/     a torch model and example inputs -> a checked graph
    ops/         one file per operator: declaration (operator.py), bodies, reference; registry.py finds them
    building/    what the operators are built with; bodies.py chooses among several; declarations.py writes the data
                 files that follow from the declarations
    saving/      the graph and its weights as files
    verifying/   verify(): a file against its model
    inspecting/  inspect(): what a file holds, without torch
    model/       the torch model: from a SOURCE, and put back as it was

Imports layers/ and generator/, never runtime/ or devices/: they meet in the file.
inspecting/ runs without torch, so the names below are imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgefc.export.exporter import ExportReport as ExportReport
    from edgefc.export.exporter import TensorInfo as TensorInfo
    from edgefc.export.exporter import export as export
    from edgefc.export.verifying.verifier import VerifyReport as VerifyReport
    from edgefc.export.verifying.verifier import verify as verify

_NAMES = {
    "ExportReport": "exporter",
    "TensorInfo": "exporter",
    "export": "exporter",
    "VerifyReport": "verifying.verifier",
    "verify": "verifying.verifier",
}

__all__ = ["ExportReport", "TensorInfo", "VerifyReport", "export", "verify"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'edgefc.export' has no attribute {name!r}")
    from edgefc.errors import needs_extra

    with needs_extra("torch", "edgefc.export"):
        return getattr(importlib.import_module(f"edgefc.export.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
