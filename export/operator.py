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
    """The attributes whose product is the size of an axis; None for a text that is for readers."""
    names = axis.split(" * ")
    return names if all(name in attributes for name in names) else None


@dataclass(frozen=True)
class Operator:
    """One operator: the nodes edgefc::<name>, and the local function that computes them.

    name        the op type; a file has at most one function of that name
    meaning     what it computes, in half a line, for the table of operators; n inputs, m outputs
    inputs      in order, each with its axes: the attribute that gives the size of an axis, or a product of attributes
                ("features * order"), or another text for readers, such as "B"; a first axis ... stands for any number
                of axes. None: any shape
    attributes  in order, each with its rule from edgefc/attributes.py, which also determines the ONNX type
    bodies      by name; the first is the default: write(op, *inputs) writes the function in standard operators
    describe    (attributes) -> the dense layer that a node replaces, for inspect
    reference   (attributes, *inputs) -> the outputs in numpy float64, computed independently of the bodies
    outputs     the names of the outputs, in order
    prepare     (attributes) -> attributes that the exporter adds to a node; they affect the speed, not the result
    held        (attributes) -> how many numbers of a seeded matrix the runtime keeps in memory for one node, with the
                first body
    choose      ({op: bytes held by its nodes}) -> (body, reason): the choice "auto", which is the default
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
        """What export(bodies={name: ...}) takes, the default first."""
        return ("auto", *self.bodies) if self.choose else tuple(self.bodies)

    def function(self, opset: int, body: str | None = None) -> ir.Function:
        """The one function that serves every node of this op in a file, by the named body or the first.

        Raises:
            UsageError: the operator has no body of that name.
        """
        name = next(iter(self.bodies)) if body is None else body
        if name not in self.bodies:
            raise UsageError(f"{self.name} has no body {name!r}. Choose one of: {', '.join(self.bodies)}.")
        types = {label: _TYPES[rule.kind] for label, rule in self.attributes.items()}
        return function(self.name, tuple(self.inputs), types, self.bodies[name], opset, self.outputs)
