"""Whether a JSON value fits a JSON Schema: the keywords that edgefc's schemas use, and a KeyError for all others."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgefc.commands import modules

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "null": (type(None),),
    "integer": (int,), "number": (int, float),
}  # fmt: skip
_SAY_NOTHING = {"$defs", "title", "description", "default", "format"}


def assert_valid(path: str | Path, name: str) -> None:
    """The file is what `edgefc schema NAME` describes."""
    module = next(each for each in modules().values() if name in getattr(each, "SCHEMAS", ()))
    schema = module.schema(name)
    found = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
    wrong = list(faults(schema, found, schema))
    assert not wrong, wrong


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def faults(schema: Mapping[str, Any], value: Any, root: Mapping[str, Any], at: str = "$") -> Iterator[str]:
    """Every place where the value does not fit, with the reason."""
    for keyword, wanted in schema.items():
        if keyword not in _SAY_NOTHING:
            yield from _KEYWORDS[keyword](wanted, value, root, at, schema)


def _type(wanted: Any, value: Any, root: Any, at: str, schema: Any) -> Iterator[str]:
    kinds = [wanted] if isinstance(wanted, str) else wanted
    if not any(isinstance(value, _TYPES[kind]) and (kind == "boolean") >= isinstance(value, bool)
               for kind in kinds):  # fmt: skip
        yield f"{at}: {value!r:.40} is not {wanted}"


def _properties(wanted: Any, value: Any, root: Any, at: str, schema: Any) -> Iterator[str]:
    for name in set(wanted) & set(value if isinstance(value, dict) else ()):
        yield from faults(wanted[name], value[name], root, f"{at}.{name}")


def _additional(wanted: Any, value: Any, root: Any, at: str, schema: Any) -> Iterator[str]:
    for name in set(value if isinstance(value, dict) else ()) - set(schema.get("properties", ())):
        if wanted is False:
            yield f"{at}: no property {name}"
        elif wanted is not True:
            yield from faults(wanted, value[name], root, f"{at}.{name}")


def _required(wanted: Any, value: Any, root: Any, at: str, schema: Any) -> Iterator[str]:
    yield from (f"{at}: {name} is missing" for name in wanted if isinstance(value, dict) and name not in value)


def _items(wanted: Any, value: Any, root: Any, at: str, schema: Any) -> Iterator[str]:
    for index, part in enumerate(value if isinstance(value, list) else ()):
        if index >= len(schema.get("prefixItems", ())):
            yield from faults(wanted, part, root, f"{at}[{index}]")


def _prefix(wanted: Any, value: Any, root: Any, at: str, schema: Any) -> Iterator[str]:
    for index, (each, part) in enumerate(zip(wanted, value if isinstance(value, list) else (), strict=False)):
        yield from faults(each, part, root, f"{at}[{index}]")


def _any(wanted: Any, value: Any, root: Any, at: str, schema: Any) -> Iterator[str]:
    found = [list(faults(each, value, root, at)) for each in wanted]
    if all(found):
        yield f"{at}: none of {found}"


def _ref(wanted: Any, value: Any, root: Any, at: str, schema: Any) -> Iterator[str]:
    yield from faults(root["$defs"][wanted.removeprefix("#/$defs/")], value, root, at)


def _where(holds: Any, kinds: tuple[type, ...]) -> Any:
    """A keyword that limits values of one kind."""

    def check(wanted: Any, value: Any, root: Any, at: str, schema: Any) -> Iterator[str]:
        if isinstance(value, kinds) and not holds(value, wanted):
            yield f"{at}: {value!r:.40} breaks {wanted}"

    return check


_NUMBER, _LIST, _ALL = (int, float), (list,), (object,)
_KEYWORDS: Mapping[str, Any] = {
    "type": _type, "properties": _properties, "additionalProperties": _additional, "required": _required,
    "items": _items, "prefixItems": _prefix, "anyOf": _any, "$ref": _ref,
    "const": _where(lambda value, wanted: value == wanted, _ALL),
    "enum": _where(lambda value, wanted: value in wanted, _ALL),
    "minimum": _where(lambda value, wanted: value >= wanted, _NUMBER),
    "maximum": _where(lambda value, wanted: value <= wanted, _NUMBER),
    "exclusiveMinimum": _where(lambda value, wanted: value > wanted, _NUMBER),
    "exclusiveMaximum": _where(lambda value, wanted: value < wanted, _NUMBER),
    "minLength": _where(lambda value, wanted: len(value) >= wanted, (str,)),
    "maxLength": _where(lambda value, wanted: len(value) <= wanted, (str,)),
    "pattern": _where(lambda value, wanted: re.search(wanted, value) is not None, (str,)),
    "minItems": _where(lambda value, wanted: len(value) >= wanted, _LIST),
    "maxItems": _where(lambda value, wanted: len(value) <= wanted, _LIST),
    "multipleOf": _where(lambda value, wanted: math.fmod(value, wanted) == 0, _NUMBER),
}  # fmt: skip
