"""Fits as bytes, for another process or a later run: arrays and JSON, without pickle."""

import dataclasses
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgefc.errors import UsageError, first_line
from edgefc.fitting.fitted import Fitted
from edgefc.fitting.solve import every_kind
from edgefc.plan.configurations import Configuration
from edgefc.plan.reading import configuration_of
from edgefc.plan.rules import configuration_record
from edgefc.rewriting.fits import New
from edgefc.rewriting.storage import Stored

Fits = Mapping[Configuration, New]


def to_bytes(fits: Fits) -> bytes:
    """The fits of one unit."""
    arrays = list[Any]()
    parts = [[configuration_record(to), _flat(new, arrays)] for to, new in fits.items()]
    file = io.BytesIO()
    np.savez(
        file, json=np.frombuffer(json.dumps(parts).encode(), np.uint8), **{f"a{at}": a for at, a in enumerate(arrays)}
    )
    return file.getvalue()


def from_bytes(content: bytes) -> dict[Configuration, New]:
    """The fits that to_bytes() was given.

    Raises:
        UsageError: the content is damaged.
    """
    kinds = {kind.__name__: kind for kind in (New, Stored, *every_kind())}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        parts = json.loads(arrays["json"].tobytes())
        return {configuration_of(to): _whole(new, arrays, kinds) for to, new in parts}
    except Exception as error:  # zipfile, zlib, json and numpy raise errors of many classes
        raise UsageError(f"the kept fits are damaged: {first_line(error)}. Remove them.") from None


def _flat(value: Any, arrays: list[Any]) -> Any:
    """JSON values. Arrays are added to the list, and objects are their class and their fields."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, (New, Stored, Fitted)):
        fields = {each.name: _flat(getattr(value, each.name), arrays) for each in dataclasses.fields(value)}
        return {"kind": type(value).__name__, "fields": fields}
    if isinstance(value, tuple):
        return [_flat(each, arrays) for each in value]
    return value


def _whole(value: Any, arrays: Mapping[str, Any], kinds: Mapping[str, type[Any]]) -> Any:
    if isinstance(value, list):
        return tuple(_whole(each, arrays, kinds) for each in value)
    if isinstance(value, dict):
        if "array" in value:
            return arrays[f"a{value['array']}"]
        return kinds[value["kind"]](**{name: _whole(each, arrays, kinds) for name, each in value["fields"].items()})
    return value
