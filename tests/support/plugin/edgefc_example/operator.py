"""edgefc::ExampleRankOne."""

import onnx_ir as ir

from edgefc.attributes import SIZE
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_linear
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, left: ir.Value, right: ir.Value, bias: ir.Value) -> ir.Value:
    """x (..., n), left (m,), right (n,), bias (m,) -> (..., m)."""
    inner = op.MatMul(x, op.Unsqueeze(right, op.const([1])))  # (..., 1)
    return op.Add(op.Mul(inner, left), bias)


def describe(attributes: Attributes) -> Described:
    return describe_linear(attributes, "rank one")


def compute(attributes: Attributes, x: Array, left: Array, right: Array, bias: Array) -> Array:
    result: Array = x @ (left[:, None] * right).T + bias
    return result


OPERATOR = Operator(
    "ExampleRankOne",
    "left (right . x) + bias",
    inputs={
        "x": (..., "in_features"),
        "left": ("out_features",),
        "right": ("in_features",),
        "bias": ("out_features",),
    },
    attributes={"in_features": SIZE, "out_features": SIZE},
    bodies={"product": write},
    describe=describe,
    reference=compute,
)
