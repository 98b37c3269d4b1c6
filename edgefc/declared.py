"""Reads declarations.json: the declarations of layers and operators, for code that runs without torch and onnx.

python -m edgefc.export.declarations writes the file from the modules of edgefc/layers/ and export/ops/.
"""

from __future__ import annotations

import functools
import json
import pkgutil
from collections.abc import Mapping
from typing import Any


def layers() -> Mapping[str, Mapping[str, str]]:
    """For each public layer: its module, and the kind of torch layer that it replaces (Entry.replaces)."""
    declared: Mapping[str, Mapping[str, str]] = _content()["layers"]
    return declared


def operators() -> Mapping[str, Mapping[str, Any]]:
    """For each operator: the axes of its inputs, and the rules of its attributes."""
    declared: Mapping[str, Mapping[str, Any]] = _content()["operators"]
    return declared


@functools.cache
def _content() -> Mapping[str, Any]:
    content = pkgutil.get_data("edgefc", "declarations.json")  # also from inside the agent's archive
    assert content is not None
    parsed: Mapping[str, Any] = json.loads(content)
    return parsed
