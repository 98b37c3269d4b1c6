"""edgefc schema [NAME]

Print the JSON Schema of the file that a command writes with --json, or of a plan.

    edgefc schema
    edgefc schema profile
    edgefc schema "devices check" > check.schema.json

Without a name it lists the schemas. The schemas (JSON Schema, draft 2020-12) describe the files of this version of
edgefc. edgefc profile and edgefc bench store a format version in the file and read files of older formats. Other files
have no format version.
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
        schema = known[name].schema(name)
    title = "a plan" if name == "plan" else f"edgefc {name} --json"
    text = json.dumps({"$schema": _DRAFT, **schema, "title": title}, indent=2)
    out(*text.split("\n"))
    return 0


_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(
    form: Any, *, mode: Literal["serialization", "validation"] = "serialization", **properties: Any
) -> dict[str, Any]:
    """The JSON Schema of a type that pydantic supports. It allows no additional properties.

    Args:
        mode: "validation" if the file omits fields with a default whose value is None.
        properties: the types of further properties of the outermost object, by name.
    """
    from pydantic import TypeAdapter

    schema = TypeAdapter(form).json_schema(mode=mode)
    for name, each in properties.items():
        add_property(schema, name, each)
    for part in (schema, *schema.get("$defs", {}).values()):
        if "properties" in part:
            part["additionalProperties"] = False
    return schema


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
    """The schema, with null allowed for every number, because JSON has no NaN."""
    if isinstance(schema, list):
        return [with_null(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {key: with_null(part) for key, part in schema.items()}
    return {**copy, "type": ["number", "null"]} if copy.get("type") == "number" else copy
