"""edgefc::LowRankLinear in standard operators: two products and an addition.

Symbols: n inputs, m outputs, r rank.
"""

import onnx_ir as ir

from edgefc.attributes import SIZE
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_linear
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, down: ir.Value, up: ir.Value, bias: ir.Value) -> ir.Value:
    """x (..., n), down (r, n), up (m, r), bias (m,) -> (..., m)."""
    inner = op.MatMul(x, op.Transpose(down))  # (..., r)
    return op.Add(op.MatMul(inner, op.Transpose(up)), bias)


def describe(attributes: Attributes) -> Described:
    return describe_linear(attributes, f"rank {attributes['rank']}")


def compute(attributes: Attributes, x: Array, down: Array, up: Array, bias: Array) -> Array:
    result: Array = x @ (up @ down).T + bias
    return result


OPERATOR = Operator(
    "LowRankLinear",
    "`up (down x) + bias`",
    inputs={
        "x": (..., "in_features"),
        "down": ("rank", "in_features"),
        "up": ("out_features", "rank"),
        "bias": ("out_features",),
    },
    attributes={"in_features": SIZE, "out_features": SIZE, "rank": SIZE},
    bodies={"products": write},
    describe=describe,
    reference=compute,
)
