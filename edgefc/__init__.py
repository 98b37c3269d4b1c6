"""Structured layers for small devices: build in torch, ship as ONNX, measure on the target."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Layers need torch; `import edgefc` must not. Each name is imported on first use.
_LAYERS = {
    "CirculantLinear": "edgefc.layers.circulant",
    "PRPLinear": "edgefc.layers.prp",
}

__all__ = ["CirculantLinear", "PRPLinear", "__version__"]

if TYPE_CHECKING:
    from edgefc.layers.circulant import CirculantLinear as CirculantLinear
    from edgefc.layers.prp import PRPLinear as PRPLinear


def __getattr__(name: str) -> Any:
    if name not in _LAYERS:
        raise AttributeError(f"module 'edgefc' has no attribute {name!r}")
    from edgefc.errors import needs_extra

    with needs_extra("torch", f"edgefc.{name}"):
        return getattr(importlib.import_module(_LAYERS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
