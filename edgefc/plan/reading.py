"""Reads plans: from a TOML or JSON file, and from Python objects.

[[rules]]
match = "embeddings.*"
to = { kind = "Int4", rotate = false }

[[rules]]
match = "encoder.*"
type = "Linear"
min_size = 4096
to = "Int4"                 # with its defaults
"""

import json
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgefc.errors import UsageError, first_line, reason_of
from edgefc.plan.configurations import KINDS, Configuration
from edgefc.plan.rules import Plan, Rule
from edgefc.plan.strict import build, shown, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LARGEST_BYTES = 1 << 20


def plan_of(given: Any) -> Plan:
    """A plan from any of its forms.

    Args:
        given: a Plan; the path of a .toml or .json file; a list of Rule objects; a dict from patterns of module names
            to configurations; or one configuration for all modules.

    Raises:
        UsageError: another object, a file that cannot be read, or an unknown or invalid setting.
    """
    if isinstance(given, Plan):
        return given
    if isinstance(given, str | os.PathLike):
        return read_plan(Path(given))
    if isinstance(given, Configuration):
        return Plan([Rule(to=given)])
    if isinstance(given, Rule):
        return Plan([given])
    if isinstance(given, Mapping):
        return Plan([_python_rule(pattern, to) for pattern, to in given.items()])
    if isinstance(given, list | tuple):
        return Plan(given)
    raise UsageError(
        f"a plan cannot be {shown(given)}. Give rules such as [Rule('encoder.*', to=Int4())], a dict such as "
        "{'encoder.*': Int4()}, one configuration such as Int4(), or the path of a .toml or .json file."
    )


def read_plan(path: Path) -> Plan:
    """Read a .toml or .json file.

    Raises:
        UsageError: the file cannot be read, or contains an unknown or invalid setting.
    """
    if path.suffix not in (".toml", ".json"):
        raise UsageError(f"cannot read the plan {path}: its name ends neither in .toml nor in .json. Rename it.")
    parsed = _parsed(path, f"the plan {path}")
    try:
        return parse_plan(parsed)
    except UsageError as error:
        raise UsageError(f"cannot use the plan {path}: {error}") from None


def read_json(path: Path) -> Any:
    """The content of a small JSON file.

    Raises:
        UsageError: the file cannot be read, or is not JSON.
    """
    return _parsed(path, str(path))


def parse_plan(content: Any) -> Plan:
    """A plan from the content of a file.

    Raises:
        UsageError: an unknown or invalid setting.
    """
    if not isinstance(content, dict):
        raise UsageError(f"a plan is an object with rules, got {shown(content)}.")
    for key in content:
        if key != "rules":
            raise unknown("entry of a plan", key, ["rules"])
    rules = content.get("rules")
    if not isinstance(rules, list):
        raise UsageError(f"rules is {shown(rules)}. Write one [[rules]] in TOML, or a list of objects in JSON.")
    return Plan([_rule(rule, f"rule {index + 1}: ") for index, rule in enumerate(rules)])


def _rule(content: Any, where: str) -> Rule:
    if not isinstance(content, dict):
        raise UsageError(f"{where}a rule is an object, got {shown(content)}.")
    if "to" not in content:
        known = ", ".join(KINDS)
        near = [key for key in content if key not in ("match", "type", "min_size")]
        if near:
            raise unknown("setting of Rule", near[0], ("match", "type", "min_size", "to"), where)
        raise UsageError(f'{where}Rule needs "to". Give one of: {known}.')
    return build(Rule, {**content, "to": configuration_of(content["to"], where)}, where)


def configuration_of(content: Any, where: str = "") -> Configuration:
    """A configuration from its content in a file: its kind, or an object with its settings.

    Raises:
        UsageError: an unknown kind, or an unknown or invalid setting. `where` begins the message.
    """
    settings = {"kind": content} if isinstance(content, str) else content
    if not isinstance(settings, dict) or "kind" not in settings:
        raise UsageError(f'{where}"to" is {shown(content)}. Write "Int4", or {{ kind = "Int4", group = 32 }}.')
    kind = settings["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise unknown("kind of layer", kind, KINDS, where)
    return build(KINDS[kind], {key: value for key, value in settings.items() if key != "kind"}, where)


def _python_rule(pattern: Any, to: Any) -> Rule:
    if not isinstance(to, Configuration):
        raise UsageError(f"the plan gives {shown(to)} for {shown(pattern)}. Give a configuration, such as Int4().")
    return Rule(pattern, to=to)


def _parsed(path: Path, what: str) -> Any:
    content = _bytes(path, what)
    try:
        text = content.decode("utf-8-sig")  # editors of Windows write the mark
        return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text, object_pairs_hook=_no_duplicates)
    except RecursionError:
        raise UsageError(f"cannot read {what}: it is nested too deeply.") from None
    except Exception as error:  # also a number of 5,000 digits
        raise UsageError(
            f"cannot read {what}: it is not valid {path.suffix[1:].upper()}: {first_line(error)}."
        ) from None


def _bytes(path: Path, what: str) -> bytes:
    if path.exists() and not path.is_file():  # opening a pipe would block
        raise UsageError(f"cannot read {what}: it is not a regular file. Check the path.")
    try:
        with open(path, "rb", opener=_nonblocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"cannot read {what}: it is not a regular file. Check the path.")
            content = file.read(_LARGEST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {what}: {reason_of(error)}. Check the path.") from None
    if len(content) > _LARGEST_BYTES:
        raise UsageError(f"cannot read {what}: it has more than {_LARGEST_BYTES} bytes. Use patterns.")
    return content


def _nonblocking(path: str, flags: int) -> int:
    """Open a file without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("an object has the same key twice")
    return result
