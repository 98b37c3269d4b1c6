"""Chooses the body of each operator in a file. All nodes of an operator share it, because a file has one function per
operator."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgefc.errors import UsageError, shortened
from edgefc.export.operator import Operator
from edgefc.export.passes import attributes_of
from edgefc.export.registry import operators

AUTO = "auto"


@dataclass(frozen=True)
class BodyChoice:
    """The body of an operator in a file, and the reason for the choice."""

    name: str
    reason: str


def check_bodies(asked: Mapping[str, str]) -> None:
    """Checks the argument `bodies` of export().

    Raises:
        UsageError: an operator does not exist, or it does not have the body.
    """
    for op, body in asked.items():
        if op not in operators():
            several = sorted(name for name, operator in operators().items() if len(operator.bodies) > 1)
            raise UsageError(
                f"cannot choose a body for {shortened(repr(op), 80)}: no operator has that name. "
                f"Operators with several bodies: {', '.join(several)}."
            )
        choices = operators()[op].choices
        if body not in choices:
            raise UsageError(f"{op} has no body {shortened(repr(body), 80)}. Choose one of: {', '.join(choices)}.")


def choose_bodies(nodes: Iterable[ir.Node], asked: Mapping[str, str]) -> dict[str, BodyChoice]:
    """The choice for each operator of these nodes that has several bodies."""
    held = held_bytes(nodes)
    several = [op for op in sorted(held) if len(operators()[op].bodies) > 1]
    return {op: _choice(operators()[op], asked.get(op), held) for op in several}


def held_bytes(nodes: Iterable[ir.Node]) -> dict[str, int]:
    """The bytes of seeded matrices that the runtime keeps in memory, by operator, with the first body of each."""
    held: dict[str, int] = {}
    for node in nodes:
        held[node.op_type] = held.get(node.op_type, 0) + _held_bytes(operators()[node.op_type], node)
    return held


def _choice(operator: Operator, asked: str | None, held: Mapping[str, int]) -> BodyChoice:
    if operator.choose is not None and asked in (None, AUTO):
        return BodyChoice(*operator.choose(held))
    if asked is None:
        return BodyChoice(next(iter(operator.bodies)), "the default")
    return BodyChoice(asked, "as requested")


def _held_bytes(operator: Operator, node: ir.Node) -> int:
    """The bytes for one node. The matrix has the dtype of the first weight of the node."""
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    dtype = ir.DataType.FLOAT if weight is None or weight.dtype is None else weight.dtype
    return operator.held(attributes_of(node)) * int(dtype.itemsize)
