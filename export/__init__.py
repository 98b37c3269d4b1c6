"""torch model -> one .onnx file whose structured layers are `edgefc::` nodes. Needs torch and onnx.

    exporter.py  export(): tracing/ > passes.py > ops/ > saving/ > verifying/
    tracing/     a torch model and example inputs -> a checked graph
    ops/         one file per operator: declaration (operator.py), bodies, reference; registry.py finds them
    building/    the parts that operators are built from; bodies.py chooses the body of an operator; declarations.py
                 writes the data files that are generated from the declarations
    saving/      writes the graph and its weights to files
    verifying/   verify(): compares a file with its model
    inspecting/  inspect(): lists the content of a file, without torch
    model/       loads the torch model from a SOURCE, and restores its state after export

Imports layers/ and generator/, but not runtime/ or devices/: their only interface is the .onnx file.
The names below are imported on first use. inspect() needs onnx, and the others torch too.
"""

from typing import TYPE_CHECKING

from edgefc.lazy import lazy

if TYPE_CHECKING:
    from edgefc.export.exporter import ExportReport as ExportReport
    from edgefc.export.exporter import TensorInfo as TensorInfo
    from edgefc.export.exporter import export as export
    from edgefc.export.inspecting.inspector import Inspection as Inspection
    from edgefc.export.inspecting.inspector import inspect as inspect
    from edgefc.export.verifying.verifier import VerifyReport as VerifyReport
    from edgefc.export.verifying.verifier import verify as verify

_NAMES = {
    "ExportReport": "edgefc.export.exporter",
    "Inspection": "edgefc.export.inspecting.inspector",
    "TensorInfo": "edgefc.export.exporter",
    "VerifyReport": "edgefc.export.verifying.verifier",
    "export": "edgefc.export.exporter",
    "inspect": "edgefc.export.inspecting.inspector",
    "verify": "edgefc.export.verifying.verifier",
}

__all__ = [
    "ExportReport",
    "Inspection",
    "TensorInfo",
    "VerifyReport",
    "export",
    "inspect",
    "verify",
]

if not TYPE_CHECKING:  # hides the lazy names from type checkers, which use the imports above
    __getattr__, __dir__ = lazy(__name__, _NAMES, "torch")
