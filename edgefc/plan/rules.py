"""Rules: which modules of a model become what. The first rule that matches a module decides."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import Field, InstanceOf, PlainValidator, WithJsonSchema

from edgefc.errors import UsageError
from edgefc.plan.configurations import Configuration
from edgefc.plan.strict import shown, strict

Pattern = Annotated[str, Field(min_length=1, max_length=1000)]
To = Annotated[InstanceOf[Configuration], WithJsonSchema({"description": "a kind of layer"})]
_MOST_RULES = 10_000


@dataclass(frozen=True)
class Candidate:
    """What a rule can match: a module of a torch model, or a weight of an .onnx file.

    name   such as encoder.layer.0.attention.self.query
    types  the names of its class and base classes, such as Linear; in an .onnx file, of the operator, such as MatMul
    size   how many numbers its weight has
    only   the kinds of configurations that it is for, such as Tied for a pair of layers; None: all
    """

    name: str
    types: tuple[str, ...]
    size: int
    only: tuple[str, ...] | None = None


@strict
class Rule:
    """The modules that become `to`.

    match     a pattern of module names, in which * stands for any characters, dots too, ? for one character and
              [ab] for one of these characters; "" is the model itself
    type      the name of the module's class or of one of its base classes, such as Linear; None: any
    min_size  how many numbers the weight has at least; None: any number
    """

    match: Annotated[str, Field(max_length=1000)] = "*"
    type: Pattern | None = None
    min_size: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    to: To = Field(kw_only=True)

    def matches(self, candidate: Candidate) -> bool:
        return (
            fnmatchcase(candidate.name, self.match)
            and (candidate.only is None or self.to.kind in candidate.only)
            and (self.type is None or self.type in candidate.types)
            and (self.min_size is None or candidate.size >= self.min_size)
        )

    def __str__(self) -> str:
        given = (("match", self.match), ("type", self.type), ("min_size", self.min_size))
        return ", ".join(f"{name}={shown(value)}" for name, value in given if value is not None)


def _checked_rules(rules: Any) -> tuple[Rule, ...]:
    """Check that every item is a Rule.

    Raises:
        UsageError: no rules, too many rules, or another object.
    """
    if not isinstance(rules, list | tuple):
        raise UsageError(f"a plan has a list of rules, got {shown(rules)}. Give [Rule('encoder.*', to=Int4())].")
    if not 0 < len(rules) <= _MOST_RULES:
        raise UsageError(f"a plan has 1 to {_MOST_RULES:,} rules, got {len(rules):,}.")
    for index, rule in enumerate(rules):
        if not isinstance(rule, Rule):
            raise UsageError(f"rule {index + 1} is {shown(rule)}. Give a Rule, such as Rule('encoder.*', to=Int4()).")
    return tuple(rules)


@strict
class Plan:
    """A list of rules, of which the first that matches a module decides. Modules that no rule matches stay.

    Plan([Rule("embeddings.*", to=Int4(rotate=False)), Rule("encoder.*", type="Linear", to=Int4())])
    """

    rules: Annotated[Sequence[Rule], PlainValidator(_checked_rules)]

    def assign(self, candidates: Iterable[Candidate]) -> dict[str, Configuration]:
        """The configuration of each candidate that a rule matches, by name.

        Raises:
            UsageError: a rule decides nothing.
        """
        known = list(candidates)
        result: dict[str, Configuration] = {}
        used: set[int] = set()
        for candidate in known:
            for index, rule in enumerate(self.rules):
                if rule.matches(candidate):
                    result[candidate.name] = rule.to
                    used.add(index)
                    break
        for index, rule in enumerate(self.rules):
            if index not in used:
                raise UsageError(_unused(index, rule, known))
        return result

    def record(self) -> dict[str, Any]:
        """The plan as in a JSON file. plan_of() reads it."""
        return {"rules": [_rule_record(rule) for rule in self.rules]}


def configuration_record(configuration: Configuration) -> dict[str, Any]:
    """The configuration as in a JSON file: its kind, and the settings that differ from their defaults."""
    record: dict[str, Any] = {"kind": configuration.kind}
    for field in fields(configuration):  # type: ignore[arg-type]
        value = getattr(configuration, field.name)
        if value != field.default:
            record[field.name] = value
    return record


def configuration_text(configuration: Configuration) -> str:
    """The configuration in a line: "Int4" or "Int4(group=16)", with the settings that differ from their defaults."""
    record = configuration_record(configuration)
    settings = ", ".join(f"{name}={value!r}" for name, value in record.items() if name != "kind")
    return f"{configuration.kind}({settings})" if settings else configuration.kind


def _rule_record(rule: Rule) -> dict[str, Any]:
    record: dict[str, Any] = {"match": rule.match}
    record |= {name: getattr(rule, name) for name in ("type", "min_size") if getattr(rule, name) is not None}
    return {**record, "to": configuration_record(rule.to)}


def _unused(index: int, rule: Rule, candidates: Sequence[Candidate]) -> str:
    failed = f"rule {index + 1} ({rule})"
    matched = [candidate for candidate in candidates if rule.matches(candidate)]
    if matched:
        return f"{failed} decides nothing: earlier rules match {_some(matched)}. Remove it, or move it up."
    if not candidates:
        return f"{failed} matches nothing: the model has no layer that edgefc can replace."
    named = [candidate for candidate in candidates if fnmatchcase(candidate.name, rule.match)]
    if named:
        of = _some(named, lambda each: f"{each.name} ({each.types[0]}, {each.size:,} numbers)")
        return f"{failed} matches nothing: the pattern matches {of}. Correct type or min_size."
    by_name = {candidate.name: candidate for candidate in candidates}
    near = [by_name[name] for name in difflib.get_close_matches(rule.match.replace("*", ""), by_name, 3, cutoff=0)]
    return f"{failed} matches nothing. Similar names are {_some(near)}."


def _some(candidates: Sequence[Candidate], text: Any = lambda each: each.name) -> str:
    more = f" and {len(candidates) - 3} more" if len(candidates) > 3 else ""
    return ", ".join(map(text, candidates[:3])) + more
