"""Finds the operators in the files of export/ops/ and in other packages.

A package registers an operator with an entry point of the group edgefc.operators, whose value is the Operator:

    [project.entry-points."edgefc.operators"]
    ScaledLinear = "mypackage.scaled:OPERATOR"
"""

import functools
import importlib
import pkgutil
from collections.abc import Iterable, Mapping

import edgefc.export.ops as folder
from edgefc.attributes import Rule
from edgefc.errors import UsageError
from edgefc.export.operator import Operator
from edgefc.plugins import plugins


def built_in() -> dict[str, Operator]:
    """The operators of export/ops/ by name."""
    files = (module.name for module in pkgutil.iter_modules(folder.__path__, folder.__name__ + "."))
    return _by_name((name, importlib.import_module(name).OPERATOR) for name in files)


@functools.cache
def operators() -> dict[str, Operator]:
    """All operators by name.

    Raises:
        UsageError: two operators have the same name, two attributes of the same name have different rules, or a
            registered operator cannot be imported.
    """
    own = [(f"edgefc.export.ops, {name}", operator) for name, operator in built_in().items()]
    return _by_name([*own, *((each.where, each.load(Operator)) for each in plugins("edgefc.operators"))])


def _by_name(declared: Iterable[tuple[str, Operator]]) -> dict[str, Operator]:
    operators: dict[str, Operator] = {}
    places: dict[str, str] = {}
    rules: dict[str, tuple[str, Rule]] = {}
    for place, operator in declared:
        if operator.name in operators:
            raise UsageError(
                f"{place} declares the operator {operator.name}, which {places[operator.name]} also declares. "
                "Rename one of them."
            )
        _check_rules(place, operator.attributes, rules)
        operators[operator.name], places[operator.name] = operator, place
    return operators


def _check_rules(place: str, attributes: Mapping[str, Rule], rules: dict[str, tuple[str, Rule]]) -> None:
    """Code that reads a file checks attributes by name, so a name must have the same rule in every operator."""
    for name, rule in attributes.items():
        other, known = rules.setdefault(name, (place, rule))
        if known != rule:
            raise UsageError(
                f"{place} declares the attribute {name} as {rule.wanted}, and {other} as {known.wanted}. "
                "Rename one of them."
            )
