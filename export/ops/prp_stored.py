"""edgefc::PRPStoredLinear in standard operators: scale, one product with the stored matrix, scale, shift.

Letters: n inputs, m outputs.
"""

import onnx_ir as ir

from edgefc.attributes import SIZE
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_linear
from edgefc.export.building.projection import finish
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(
    op: Body, x: ir.Value, projection: ir.Value, in_scale: ir.Value, out_scale: ir.Value, bias: ir.Value
) -> ir.Value:
    """x (..., n), projection (m, n), in_scale (n,), out_scale (m,), bias (m,) -> (..., m)."""
    u = op.Reshape(op.Mul(x, in_scale), op.shape(-1, op.attribute("in_features")))
    return finish(op, op.Gemm(u, projection, transB=1), x, out_scale, bias)


def describe(attributes: Attributes) -> Described:
    return describe_linear(attributes, "orthogonal, stored")


def compute(
    attributes: Attributes, x: Array, projection: Array, in_scale: Array, out_scale: Array, bias: Array
) -> Array:
    result: Array = (x * in_scale) @ projection.T * out_scale + bias
    return result


OPERATOR = Operator(
    "PRPStoredLinear",
    "PRPLinear with a stored P (orthogonal)",
    inputs={
        "x": (..., "in_features"),
        "projection": ("out_features", "in_features"),
        "in_scale": ("in_features",),
        "out_scale": ("out_features",),
        "bias": ("out_features",),
    },
    attributes={"in_features": SIZE, "out_features": SIZE},
    bodies={"product": write},
    describe=describe,
    reference=compute,
)
