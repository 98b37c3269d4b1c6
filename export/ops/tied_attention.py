"""edgefc::TiedProjection in standard operators: one Gemm with the weight or its transpose.

Two nodes with the same weight share it. An attribute of Gemm transposes the weight, so the graph contains no Transpose,
which exporters and runtimes would fold into a second copy.

Letters: n inputs, m outputs.
"""

import onnx_ir as ir

from edgefc.attributes import FLAG, SIZE
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_linear
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, weight: ir.Value, bias: ir.Value) -> ir.Value:
    """x (..., n), weight (m, n) if transB is 1 and (n, m) if it is 0, bias (m,) -> (..., m)."""
    n, m = op.attribute("in_features"), op.attribute("out_features")
    rows = op.Reshape(x, op.shape(-1, n))  # (B, n)
    y = op.Gemm(rows, weight, bias, transB=ir.RefAttr("transB", "transB", ir.AttributeType.INT))  # (B, m)
    return op.Reshape(y, op.Concat(op.Shape(x, end=-1), op.shape(m), axis=0), allowzero=1)  # a batch of 0 stays one


def describe(attributes: Attributes) -> Described:
    return describe_linear(attributes, "as stored" if attributes["transB"] else "transposed")


def compute(attributes: Attributes, x: Array, weight: Array, bias: Array) -> Array:
    result: Array = x @ (weight.T if attributes["transB"] else weight) + bias
    return result


OPERATOR = Operator(
    "TiedProjection",
    "x times a matrix, or its transpose, that another node also uses: `TiedAttention`",
    inputs={"x": (..., "in_features"), "weight": ("a", "b"), "bias": ("out_features",)},
    attributes={"in_features": SIZE, "out_features": SIZE, "transB": FLAG},
    bodies={"product": write},
    describe=describe,
    reference=compute,
)
