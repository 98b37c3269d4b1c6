"""edgefc::TiedFFN in standard operators: two Gemms with the same weight, which is stored and held once.

    rows > Gemm with W^T > activation > Gemm with W > original shape

An attribute of Gemm selects W or its transpose, so the graph contains no Transpose, which a runtime would fold into a
second copy. The runtime may make other copies: onnxruntime packs the weight once for each of the two products, unless
the session options disable it (preset "memory").

Letters: d d_model, h d_hidden.
"""

import onnx_ir as ir

from edgefc.attributes import ACTIVATION, SIZE
from edgefc.export.building import reference
from edgefc.export.building.activations import activate
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, activation_name
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, weight: ir.Value, bias_in: ir.Value, bias_out: ir.Value) -> ir.Value:
    """x (..., d), weight (h, d), bias_in (h,), bias_out (d,) -> (..., d)."""
    d = op.attribute("d_model")
    rows = op.Reshape(x, op.shape(-1, d))  # (B, d)
    hidden = op.Gemm(rows, weight, bias_in, transB=1)  # (B, h)
    y = op.Gemm(activate(op, op.attribute("activation"), hidden), weight, bias_out)  # (B, d)
    return op.Reshape(y, op.Shape(x), allowzero=1)  # with allowzero, 0 means an empty batch


def describe(attributes: Attributes) -> Described:
    """The description of a node. It replaces two linear layers and the function between them."""
    d, h = int(attributes["d_model"]), int(attributes["d_hidden"])
    name = activation_name(attributes)
    return Described(shape=f"{h} x {d} and back", dense=2 * d * h + d + h, detail=name)


def compute(attributes: Attributes, x: Array, weight: Array, bias_in: Array, bias_out: Array) -> Array:
    result: Array = reference.activation(attributes, x @ weight.T + bias_in) @ weight + bias_out
    return result


OPERATOR = Operator(
    "TiedFFN",
    "`W^T f(W x + b1) + b2`",
    inputs={
        "x": (..., "d_model"),
        "weight": ("d_hidden", "d_model"),
        "bias_in": ("d_hidden",),
        "bias_out": ("d_model",),
    },
    attributes={"d_model": SIZE, "d_hidden": SIZE, "activation": ACTIVATION},
    bodies={"products": write},
    describe=describe,
    reference=compute,
)
