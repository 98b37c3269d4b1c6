"""Records of older versions as those of today. record.py has the history of the format."""

import json
from typing import Any

_OLD = 3


def upgraded(text: bytes) -> bytes:
    """JSON with every record of version 3 in it, also those within a report or a bench, in the form of version 4."""
    if b'"ratios"' not in text and b'"records"' not in text:
        return text
    try:
        return json.dumps(_upgraded(json.loads(text))).encode()
    except (ValueError, RecursionError):
        return text  # whoever validates it says what is wrong


def _upgraded(value: Any) -> Any:
    if isinstance(value, dict):
        value = _record(value) if "ratios" in value and value.get("schema_version") == _OLD else value
        value = {**value, "schema_version": 4} if "records" in value and value.get("schema_version") == _OLD else value
        return {name: _upgraded(part) if name in ("records", "profiles") else part for name, part in value.items()}
    return [_upgraded(part) for part in value] if isinstance(value, list) else value


def _record(old: dict[str, Any]) -> dict[str, Any]:
    """Left as it is where it is not of the old form: whoever validates it says what is wrong."""
    try:
        return {
            **{name: part for name, part in old.items() if name != "ratios"},
            "schema_version": 4,
            "config": {**old["config"], "shapes": {}, "ranges": {}},
            "cells": [{**cell, "inputs": None, "not_compared": None} for cell in old["cells"]],
            "speeds": [_inverted(ratio) for ratio in old["ratios"]],
        }
    except (TypeError, KeyError, AttributeError, ZeroDivisionError):
        return old


def _inverted(ratio: dict[str, Any]) -> dict[str, Any]:
    """Time over the first model's time as its inverse, with the ends of the interval swapped."""
    ends = {"low": ratio["high"], "high": ratio["low"]}
    return {
        **ratio, "median": 1 / ratio["median"],
        **{name: None if end is None else 1 / end for name, end in ends.items()},
    }  # fmt: skip
