"""edgefc::TiedBottleneck in standard operators: Conv and ConvTranspose on the same weight, held once.

    pixels in a row > Conv, W > norm > ReLU > Conv, 3 x 3 > norm > ReLU > ConvTranspose, W > sum

ConvTranspose reads its weight as (inputs, outputs), so that the weight of a Conv is the transposed one, without a
Transpose that a runtime would fold into a second copy. Both run over pixels in a row, (N, C, height * width), not over
images: of a weight that a 2-D Conv reads onnxruntime makes a copy of its own at load, scaled by the norm that follows,
and once more in the order of its processor's vectors; of one that a 1-D Conv reads it makes none. The rows are views,
not copies.

Letters: C channels, w width, P pixels.
"""

import numpy as np
import onnx_ir as ir

from edgefc.attributes import EPSILON, SIZE
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, weight: ir.Value, *rest: ir.Value) -> ir.Value:
    """x (N, C, height, width), weight (w, C, 1), norm (4 of (w,)), kernel (w, w, 3, 3), norm -> x's shape."""
    norm_in, kernel, norm_out = rest[:4], rest[4], rest[5:]
    width, sides = op.attribute("width"), op.Shape(x, start=2)
    pixels, batch = op.ReduceProd(sides, keepdims=1), op.Shape(x, end=1)
    inner = op.Conv(op.Reshape(x, op.Concat(op.Shape(x, end=2), pixels, axis=0)), weight)  # (N, w, P)
    inner = op.Reshape(inner, op.Concat(batch, op.shape(width), sides, axis=0))  # (N, w, height, width)
    inner = op.Conv(_norm_relu(op, inner, norm_in, "epsilon_in"), kernel, pads=[1, 1, 1, 1])
    inner = _norm_relu(op, inner, norm_out, "epsilon_out")
    inner = op.Reshape(inner, op.Concat(batch, op.shape(width), pixels, axis=0))  # (N, w, P)
    return op.Add(op.Reshape(op.ConvTranspose(inner, weight), op.Shape(x)), x)


def _norm_relu(op: Body, x: ir.Value, norm: tuple[ir.Value, ...], epsilon: str) -> ir.Value:
    attribute = ir.RefAttr("epsilon", epsilon, ir.AttributeType.FLOAT)
    return op.Relu(op.BatchNormalization(x, *norm, epsilon=attribute))


_NORM = ("scale", "shift", "mean", "variance")


def describe(attributes: Attributes) -> Described:
    """In the place of two 1x1 convolutions and the 3x3 one and two norms, of eight numbers a channel, between them."""
    c, w = int(attributes["channels"]), int(attributes["width"])
    return Described(shape=f"{w} x {c} and back", dense=2 * c * w + 9 * w * w + 8 * w, detail="3 x 3 within")


def compute(attributes: Attributes, x: Array, weight: Array, *rest: Array) -> Array:
    def norm_relu(values: Array, norm: tuple[Array, ...], epsilon: float) -> Array:
        scale, shift, mean, variance = (each[:, None, None] for each in norm)
        return np.maximum(scale * (values - mean) / np.sqrt(variance + epsilon) + shift, 0)

    matrix = weight[:, :, 0]
    inner = norm_relu(np.einsum("wc,bcyx->bwyx", matrix, x), rest[:4], attributes["epsilon_in"])
    inner = reference.convolve(inner, rest[4], (1, 1), (1, 1, 1, 1))
    inner = norm_relu(inner, rest[5:], attributes["epsilon_out"])
    result: Array = np.einsum("wc,bwyx->bcyx", matrix, inner) + x
    return result


_NORM = ("scale", "shift", "mean", "variance")
OPERATOR = Operator(
    "TiedBottleneck",
    "`W^T G(W x) + x`; blocks of a stage name the same weight",
    inputs={
        "x": ("B", "channels", "h", "w"),
        "weight": ("width", "channels", "1"),
        **{f"{name}_in": ("width",) for name in _NORM},
        "kernel": ("width", "width", "3", "3"),
        **{f"{name}_out": ("width",) for name in _NORM},
    },
    attributes={"channels": SIZE, "width": SIZE, "epsilon_in": EPSILON, "epsilon_out": EPSILON},
    bodies={"convolutions": write},
    describe=describe,
    reference=compute,
)
