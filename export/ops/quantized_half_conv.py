"""edgefc::HalfConv2d in standard operators: Cast and Conv. The runtime folds the Cast when it loads the file."""

import onnx_ir as ir

from edgefc.attributes import PADDING, PAIR, SIZE
from edgefc.export.building.body import Body
from edgefc.export.building.conv import compute_conv, convolve
from edgefc.export.building.described import Described, describe_conv, describe_storage
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, kernel: ir.Value, bias: ir.Value) -> ir.Value:
    """x (B, C, h, w), kernel (M, C / groups, kh, kw) float16, bias (M,) -> (B, M, h', w')."""
    return convolve(op, x, op.CastLike(kernel, x), op.CastLike(bias, x))


def describe(attributes: Attributes) -> Described:
    return describe_storage(describe_conv(attributes), attributes)


def compute(attributes: Attributes, x: Array, kernel: Array, bias: Array) -> Array:
    return compute_conv(attributes, x, kernel, bias)


OPERATOR = Operator(
    "HalfConv2d",
    "a convolution with its kernel in float16",
    inputs={
        "x": ("B", "in_channels", "h", "w"),
        "kernel": ("out_channels", "c", "kh", "kw"),
        "bias": ("out_channels",),
    },
    attributes={
        "in_channels": SIZE,
        "out_channels": SIZE,
        "groups": SIZE,
        "kernel_shape": PAIR,
        "strides": PAIR,
        "pads": PADDING,
        "dilations": PAIR,
    },
    bodies={"cast": write},
    describe=describe,
    reference=compute,
)
