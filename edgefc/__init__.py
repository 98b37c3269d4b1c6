"""Structured layers for small devices: build in torch, ship as ONNX, measure on the target."""

# The layers have their names here: edgefc.CirculantLinear. declarations.json says in which module each of them is, and
# __init__.pyi says the same to type checkers. Both are written by python -m edgefc.export.declarations.

import functools
import importlib
from typing import Any

__version__ = "0.1.0"


@functools.lru_cache(maxsize=None)  # noqa: UP033  Python 3.9 runs this file on boards
def _layers() -> dict[str, str]:
    """The module of each layer by its name. Layers need torch, and this does not."""
    import json
    import pkgutil

    found: dict[str, str] = json.loads(pkgutil.get_data("edgefc", "declarations.json") or b"")["layers"]
    return found


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return [*_layers(), "__version__"]
    if name.startswith("_") or name not in _layers():
        raise AttributeError(f"module 'edgefc' has no attribute {name!r}")
    from edgefc.errors import needs_extra

    with needs_extra("torch", f"edgefc.{name}"):
        return getattr(importlib.import_module(_layers()[name]), name)


def __dir__() -> list[str]:
    return [*_layers(), "__version__"]
