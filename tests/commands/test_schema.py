"""edgefc schema: each --json has a schema. The tests of the commands check real files against it: assert_valid()."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgefc.cli import main
from edgefc.commands import modules
from tests.support.json_schema import faults

NAMES = [name for module in modules().values() for name in getattr(module, "SCHEMAS", ())]


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parser and those of its actions, but for the second names of an action."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from parsers(each)


def test_every_command_that_writes_json_has_a_schema() -> None:
    writing = set()
    for name, module in modules().items():
        top = argparse.ArgumentParser(prog=name)
        module.add_arguments(top)
        writing |= {each.prog for each in parsers(top) if "--json" in each._option_string_actions}

    others = {"plan", "replace onnx"}  # users write plans; replace writes another report for .onnx files
    assert writing - {"devices list"} == set(NAMES) - others  # it writes what `devices` writes


def test_the_list_of_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert capsys.readouterr().out.split("\n")[:-1] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON of the named draft; a devices check of two words needs no quotes."""
    assert main(["schema", *name.split()]) == 0
    found = json.loads(capsys.readouterr().out)

    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert found["title"] == ("a plan" if name == "plan" else f"edgefc {name} --json")
    assert found["type"] == ("array" if name == "layers" else "object")
    for part in (found, *found.get("$defs", {}).values()):
        assert ("properties" in part) <= (part.get("additionalProperties") is False)


def test_a_name_that_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "profiles"]) == 2
    assert capsys.readouterr().err == (
        f"edgefc schema: there is no schema 'profiles'. Choose one of: {', '.join(NAMES)}.\n"
    )


SCHEMA: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["a"],
    "properties": {
        "a": {"anyOf": [{"$ref": "#/$defs/part"}, {"type": "null"}]},
        "b": {"type": "array", "items": {"type": "number", "minimum": 0}},
    },
    "$defs": {"part": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ({"a": None}, True),
        ({"a": {"n": 1}, "b": [0, 1.5]}, True),
        ({}, False),
        ({"a": {"n": True}}, False),
        ({"a": {}}, False),
        ({"a": None, "b": [1, -1]}, False),
        ({"a": None, "b": "1"}, False),
        ({"a": None, "c": 1}, False),
        ([], False),
    ],
)
def test_the_check_can_fail(value: Any, fits: bool) -> None:
    """Meta-test."""
    assert (not list(faults(SCHEMA, value, SCHEMA))) == fits


def test_a_file_that_lacks_a_part_is_not_valid(tmp_path: Path) -> None:
    """Meta-test on a real schema."""
    from tests.support.json_schema import assert_valid

    (tmp_path / "r.json").write_text(json.dumps({"schema_version": 5, "records": [], "failures": []}))
    assert_valid(tmp_path / "r.json", "profile")
    (tmp_path / "r.json").write_text(json.dumps({"schema_version": 5, "records": []}))
    with pytest.raises(AssertionError, match="failures is missing"):
        assert_valid(tmp_path / "r.json", "profile")
