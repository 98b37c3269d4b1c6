"""Reads declarations.json: the declarations of layers and operators, for code that runs without torch and onnx.

The file is written by python -m edgefc.export.declarations from the files of edgefc/layers/ and export/ops/.
"""

from __future__ import annotations

import functools
import json
import pkgutil
from collections.abc import Mapping
from typing import Any


def layers() -> Mapping[str, Mapping[str, str]]:
    """For each public layer: its module, and the kind of torch layer that it replaces (Entry.replaces)."""
    found: Mapping[str, Mapping[str, str]] = _content()["layers"]
    return found


def operators() -> Mapping[str, Mapping[str, Any]]:
    """For each operator: the axes of its inputs, and the rules of its attributes."""
    found: Mapping[str, Mapping[str, Any]] = _content()["operators"]
    return found


@functools.cache
def _content() -> Mapping[str, Any]:
    content = pkgutil.get_data("edgefc", "declarations.json")  # also from inside the agent's archive
    assert content is not None
    found: Mapping[str, Any] = json.loads(content)
    return found
