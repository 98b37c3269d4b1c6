"""The JSON Schema of a plan, for editors and other programs."""

from typing import Any

from pydantic import TypeAdapter

from edgefc.plan.configurations import KINDS, Configuration
from edgefc.plan.rules import Rule


def plan_schema() -> dict[str, Any]:
    """The JSON Schema of the content of a plan's file, which is the same in TOML and JSON."""
    kinds = {name: _configuration(kind) for name, kind in KINDS.items()}
    rule = TypeAdapter(Rule).json_schema()
    rule["properties"]["to"] = {
        "description": "a kind of layer with its defaults, or an object with its settings",
        "anyOf": [{"enum": [*KINDS]}, *({"$ref": f"#/$defs/{name}"} for name in KINDS)],
    }
    rules = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Rule"}}
    return {
        "type": "object",
        "properties": {"rules": rules},
        "required": ["rules"],
        "additionalProperties": False,
        "$defs": {"Rule": rule, **kinds},
    }


def _configuration(kind: type[Configuration]) -> dict[str, Any]:
    schema = TypeAdapter(kind).json_schema()
    schema["properties"] = {"kind": {"const": kind.__name__}, **schema.get("properties", {})}
    schema["required"] = ["kind"]
    return schema
