"""edgefc schema [NAME]

Show the JSON Schema of what a command writes with --json.

    edgefc schema                     (lists the names)
    edgefc schema profile
    edgefc schema "devices check" > check.schema.json

The schema is that of this version (JSON Schema, draft 2020-12). edgefc profile and edgefc bench write their version
into the file and read older files; the other files have no version.
"""

import argparse
import json
from typing import Any, Literal

from edgefc.screen import out

TASK = "learn"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="*", metavar="NAME", help="a command, such as profile or devices check (default: list them)"
    )


def run(args: argparse.Namespace) -> int:
    from edgefc.commands import modules
    from edgefc.errors import UsageError, needs_extra

    known = {name: module for module in modules().values() for name in getattr(module, "SCHEMAS", ())}
    name = " ".join(args.name)
    if not name:
        out(*known)
        return 0
    if name not in known:
        raise UsageError(f"there is no schema {name!r}. Choose one of: {', '.join(known)}.")
    with needs_extra(known[name].EXTRA, f"edgefc schema {name}"):
        found = known[name].schema(name)
    text = json.dumps({"$schema": _DRAFT, **found, "title": f"edgefc {name} --json"}, indent=2)
    out(*text.split("\n"))
    return 0


_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(
    form: Any, *, mode: Literal["serialization", "validation"] = "serialization", **properties: Any
) -> dict[str, Any]:
    """The schema of the JSON of a type that pydantic describes, without additional properties.

    Args:
        mode: "validation" where fields that have a default are left out of the file when they are None.
        properties: further properties of the outermost object, by name: their types.
    """
    from pydantic import TypeAdapter

    found = TypeAdapter(form).json_schema(mode=mode)
    for name, each in properties.items():
        add_property(found, name, each)
    for part in (found, *found.get("$defs", {}).values()):
        if "properties" in part:
            part["additionalProperties"] = False
    return found


def object_of(**parts: Any) -> Any:
    """The type of a JSON object with these properties."""
    from pydantic import create_model

    fields: dict[str, Any] = {name: (form, ...) for name, form in parts.items()}
    return create_model("File", **fields)


def add_property(schema: dict[str, Any], name: str, form: Any) -> None:
    from pydantic import TypeAdapter

    schema["properties"][name] = TypeAdapter(form).json_schema()
    schema["required"] = [*schema.get("required", ()), name]


def with_null(schema: Any) -> Any:
    """The schema with null wherever a number is: JSON has no NaN."""
    if isinstance(schema, list):
        return [with_null(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: with_null(part) for key, part in schema.items()}
    return {**found, "type": ["number", "null"]} if found.get("type") == "number" else found
