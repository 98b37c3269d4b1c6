"""Convert records of older versions to the current one. record.py has the history of the format."""

import json
from collections.abc import Callable
from typing import Any

Old = dict[str, Any]


def upgraded(text: bytes) -> bytes:
    """The same JSON with every record in the current format: a single record, a report or a bench.

    A record that does not match its version is not changed, and its validation later fails.
    """
    if not any(name in text for name in (b'"ratios"', b'"records"', b'"doubts"')):
        return text
    try:
        return json.dumps(_upgraded(json.loads(text))).encode()
    except (ValueError, RecursionError):
        return text


def _upgraded(value: Any) -> Any:
    if isinstance(value, list):
        return [_upgraded(part) for part in value]
    if not isinstance(value, dict):
        return value
    for version, step in _STEPS.items():
        if "cells" in value and value.get("schema_version") == version:
            value = _tried(step, value)
    if "rows" in value and value.get("schema_version") == 2:
        value = _tried(_bench_3, value)
    if "records" in value and value.get("schema_version") in _STEPS:
        value = {**value, "schema_version": 5}
    return {name: _upgraded(part) if name in ("records", "profiles") else part for name, part in value.items()}


def _tried(step: Callable[[Old], Old], old: Old) -> Old:
    try:
        return step(old)
    except (TypeError, KeyError, AttributeError, ZeroDivisionError):
        return old


def _version_4(old: Old) -> Old:
    """Replace ratios by speeds, their inverse: the first model's time divided by each other model's time."""
    return {
        **{name: part for name, part in old.items() if name != "ratios"},
        "schema_version": 4,
        "config": {**old["config"], "shapes": {}, "ranges": {}},
        "cells": [{**cell, "inputs": None, "not_compared": None} for cell in old["cells"]],
        "speeds": [_inverted(ratio) for ratio in old["ratios"]],
    }


def _version_5(old: Old) -> Old:
    """Rename doubts to warnings, activations to activation_dtype, and native of a cell to native_variant."""
    settings = [_renamed(each, "activations", "activation_dtype") for each in old["config"]["model_settings"]]
    config = _renamed({**old["config"], "model_settings": settings}, "activations", "activation_dtype")
    cells = [_renamed(_renamed(cell, "doubts", "warnings"), "native", "native_variant") for cell in old["cells"]]
    return {**old, "schema_version": 5, "config": config, "cells": cells}


def _bench_3(old: Old) -> Old:
    return {**old, "schema_version": 3, "rows": [_renamed(row, "doubts", "warnings") for row in old["rows"]]}


_STEPS: dict[int, Callable[[Old], Old]] = {3: _version_4, 4: _version_5}


def _renamed(old: Old, name: str, new: str) -> Old:
    return {new if key == name else key: part for key, part in old.items()}


def _inverted(ratio: Old) -> Old:
    """The inverse of a ratio. The ends of the interval are swapped."""
    ends = {"low": ratio["high"], "high": ratio["low"]}
    return {
        **ratio, "median": 1 / ratio["median"],
        **{name: None if end is None else 1 / end for name, end in ends.items()},
    }  # fmt: skip
