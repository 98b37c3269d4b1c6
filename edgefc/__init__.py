"""Structured layers for small devices: build in torch, ship as ONNX, measure on the target."""

# The layers are attributes of this package, such as edgefc.CirculantLinear, and are imported on first use.
# declarations.json lists the module of each layer, and __init__.pyi lists the layers for type checkers.
# python -m edgefc.export.declarations writes both files.

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

FUNCTIONS = {
    "compress": "edgefc.compressing.compressing",
    "distil": "edgefc.training.distilling",
    "load": "edgefc.replacing.saving",
    "replace": "edgefc.replacing.replacing",
    "save": "edgefc.replacing.saving",
}
"""The module of each public function."""


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name == "plan":  # so that edgefc.plan.Int4() works after import edgefc
        return importlib.import_module("edgefc.plan")
    module = _module_of(name)
    if module is None:
        raise AttributeError(f"module 'edgefc' has no attribute {name!r}")
    from edgefc.errors import needs_extra

    with needs_extra("torch", f"edgefc.{name}"):
        return getattr(importlib.import_module(module), name)


def _module_of(name: str) -> str | None:
    """None for a name that is neither layer nor function. Names of submodules come here before they are imported."""
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    if not name[:1].isupper():
        return None
    from edgefc.declared import layers

    return layers()[name]["module"] if name in layers() else None


def __dir__() -> list[str]:
    from edgefc.declared import layers

    return [*layers(), *FUNCTIONS, "__version__", "plan"]
