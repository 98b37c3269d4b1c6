"""edgefc::TiedBottleneck in standard operators: Conv and ConvTranspose with the same weight, which is held once.

    pixels as one axis > Conv, W > norm > ReLU > Conv, 3 x 3 > norm > ReLU > ConvTranspose, W > sum

ConvTranspose reads its weight as (inputs, outputs), so the weight of a Conv is its transposed weight. No Transpose is
needed, which a runtime would fold into a second copy. Both run over pixels as one axis, (N, C, height * width), not
over images. onnxruntime copies the weight of a 2-D Conv at load, scaled by the norm that follows, and copies it again
in the order of the vectors of its processor. It does not copy the weight of a 1-D Conv. The reshaped pixels are views,
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
    """The description of a node. It replaces two 1x1 convolutions, and the 3x3 convolution and two norms between them.

    The two norms together have eight values per channel.
    """
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
    "`W^T G(W x) + x`; the blocks of a stage share the weight",
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
