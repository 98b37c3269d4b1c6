"""declarations.json: what the layers and operators of edgefc declare, for readers that run without torch and ONNX.

Written by python -m edgefc.export.declarations from the files of edgefc/layers/ and export/ops/.
"""

from __future__ import annotations

import functools
import json
import pkgutil
from collections.abc import Mapping
from typing import Any


def layers() -> Mapping[str, Mapping[str, str]]:
    """Each public layer by name: its module, and what it replaces ("linear", ...; empty where that has no name)."""
    found: Mapping[str, Mapping[str, str]] = _content()["layers"]
    return found


def operators() -> Mapping[str, Mapping[str, Any]]:
    """Each operator by name: its inputs with their axes, and the rules of its attributes."""
    found: Mapping[str, Mapping[str, Any]] = _content()["operators"]
    return found


@functools.cache
def _content() -> Mapping[str, Any]:
    content = pkgutil.get_data("edgefc", "declarations.json")  # also from inside the agent's archive
    assert content is not None
    found: Mapping[str, Any] = json.loads(content)
    return found
