"""torch model -> one .onnx file whose structured layers are `edgefc::` nodes. Needs torch and onnx.

edgefc.export.inspector reads such files without torch, so the names below are imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgefc.export.exporter import ExportReport as ExportReport
    from edgefc.export.exporter import TensorInfo as TensorInfo
    from edgefc.export.exporter import export as export
    from edgefc.export.verifier import VerifyReport as VerifyReport
    from edgefc.export.verifier import verify as verify

_NAMES = {
    "ExportReport": "exporter",
    "TensorInfo": "exporter",
    "export": "exporter",
    "VerifyReport": "verifier",
    "verify": "verifier",
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
