"""edgefc::HalfLinear in standard operators: Cast and MatMul. The runtime folds the Cast when it loads the file."""

import onnx_ir as ir

from edgefc.attributes import SIZE
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_linear, describe_storage
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, weight: ir.Value, bias: ir.Value) -> ir.Value:
    """x (..., n), weight (m, n) float16, bias (m,) -> (..., m)."""
    return op.Add(op.MatMul(x, op.CastLike(op.Transpose(weight, perm=[1, 0]), x)), op.CastLike(bias, x))


def describe(attributes: Attributes) -> Described:
    return describe_storage(describe_linear(attributes), attributes)


def compute(attributes: Attributes, x: Array, weight: Array, bias: Array) -> Array:
    result: Array = x @ weight.T + bias
    return result


OPERATOR = Operator(
    "HalfLinear",
    "a dense layer with its weight in float16",
    inputs={"x": (..., "in_features"), "weight": ("out_features", "in_features"), "bias": ("out_features",)},
    attributes={"in_features": SIZE, "out_features": SIZE},
    bodies={"cast": write},
    describe=describe,
    reference=compute,
)
