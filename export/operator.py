"""The declaration of an operator of the domain edgefc. The exporter, inspect, pages and tests read it."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import onnx_ir as ir

from edgefc.attributes import Rule
from edgefc.errors import UsageError
from edgefc.export.building.body import function
from edgefc.export.building.described import Described
from edgefc.export.building.reference import Attributes

Axes = tuple[str | EllipsisType, ...]
Write = Callable[..., ir.Value | tuple[ir.Value, ...]]

_TYPES = {
    "whole": ir.AttributeType.INT,
    "bits": ir.AttributeType.INT,
    "wholes": ir.AttributeType.INTS,
    "epsilon": ir.AttributeType.FLOAT,
    "levels": ir.AttributeType.FLOATS,
    "text": ir.AttributeType.STRING,
}
"""The ONNX type of an attribute by the kind of its rule."""


def _nothing(attributes: Attributes) -> Mapping[str, int | list[int]]:
    return {}


def _none(attributes: Attributes) -> int:
    return 0


def factors(axis: str, attributes: Container[str]) -> list[str] | None:
    """The attributes whose product is the size of an axis, or None for a text that is only documentation."""
    names = axis.split(" * ")
    return names if all(name in attributes for name in names) else None


@dataclass(frozen=True)
class Operator:
    """One operator: the nodes edgefc::<name>, and the local function that computes them.

    name        the op type; a file has at most one function with this name
    meaning     a short description for the table of operators; n inputs, m outputs
    inputs      in order, each with its axes. An axis is the attribute that gives its size, a product of attributes
                ("features * order"), or another text as documentation, such as "B". A first axis ... means any number
                of axes. None means any shape
    attributes  in order, each with its rule from edgefc/attributes.py, which also determines the ONNX type
    bodies      by name, the default first: write(op, *inputs) writes the function in standard operators
    describe    (attributes) -> the dense layer that a node replaces, for inspect
    reference   (attributes, *inputs) -> the outputs in numpy float64, computed independently of the bodies
    outputs     the names of the outputs, in order
    prepare     (attributes) -> attributes that the exporter adds to a node; they affect the speed, not the result
    held        (attributes) -> the number of values of a seeded matrix that the runtime keeps in memory for one node
                with the first body
    choose      ({op: bytes held by its nodes}) -> (body, reason), for the choice "auto". If it is given, "auto" is the
                default
    """

    name: str
    meaning: str
    inputs: Mapping[str, Axes | None]
    attributes: Mapping[str, Rule]
    bodies: Mapping[str, Write]
    describe: Callable[[Attributes], Described]
    reference: Callable[..., Any]
    outputs: tuple[str, ...] = ("y",)
    prepare: Callable[[Attributes], Mapping[str, int | list[int]]] = _nothing
    held: Callable[[Attributes], int] = _none
    choose: Callable[[Mapping[str, int]], tuple[str, str]] | None = None

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that export(bodies={name: ...}) accepts, the default first."""
        return ("auto", *self.bodies) if self.choose else tuple(self.bodies)

    def function(self, opset: int, body: str | None = None) -> ir.Function:
        """The local function for all nodes of this operator in a file, with the named body or the first.

        Raises:
            UsageError: the operator has no body with this name.
        """
        name = next(iter(self.bodies)) if body is None else body
        if name not in self.bodies:
            raise UsageError(f"{self.name} has no body {name!r}. Choose one of: {', '.join(self.bodies)}.")
        types = {label: _TYPES[rule.kind] for label, rule in self.attributes.items()}
        return function(self.name, tuple(self.inputs), types, self.bodies[name], opset, self.outputs)
