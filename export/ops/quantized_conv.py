"""edgefc::QuantizedConv2d in standard operators: the codes are expanded when the file is loaded, then Conv.

A convolution of 1 x 1 is not written as MatMulNBits, which needs the channels as the last axis. With 8 bits and both
transpositions it takes 131 microseconds where Conv takes 76 (64 to 64 channels, 28 x 28 pixels), 323 and 262 (128 to
512, 14 x 14), and 69 and 67 (512 to 128, 7 x 7): one thread, AVX-512 VNNI, onnxruntime 1.31.1.
"""

import math

import onnx_ir as ir

from edgefc.attributes import BITS, PADDING, PAIR, SIZE
from edgefc.export.building import packed
from edgefc.export.building.body import Body
from edgefc.export.building.conv import compute_conv, convolve
from edgefc.export.building.described import Described, describe_conv, describe_storage
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, codes: ir.Value, scales: ir.Value, bias: ir.Value) -> ir.Value:
    """x (B, C, h, w), codes (M, G, c), scales (M, G), bias (M,) -> (B, M, h', w')."""
    inputs, outputs, groups = (op.attribute(name) for name in ("in_channels", "out_channels", "groups"))
    shape = op.Concat(op.shape(outputs, op.Div(inputs, groups)), op.attribute("kernel_shape", tuple), axis=0)
    patch = op.Div(op.ReduceProd(shape, keepdims=0), outputs)
    kernel = op.Reshape(op.first(packed.values(op, codes, scales), patch), shape)
    return convolve(op, x, op.CastLike(kernel, x), op.CastLike(bias, x))


def describe(attributes: Attributes) -> Described:
    return describe_storage(describe_conv(attributes), attributes)


def compute(attributes: Attributes, x: Array, codes: Array, scales: Array, bias: Array) -> Array:
    shape = (attributes["out_channels"], attributes["in_channels"] // attributes["groups"], *attributes["kernel_shape"])
    rows = packed.reference(attributes, codes, scales)[:, : math.prod(shape[1:])]
    return compute_conv(attributes, x, rows.reshape(shape), bias)


OPERATOR = Operator(
    "QuantizedConv2d",
    "a convolution with its kernel in 2, 4 or 8 bits, and a scale for each group of numbers",
    inputs={
        "x": ("B", "in_channels", "h", "w"),
        "codes": ("out_channels", "G", "c"),
        "scales": ("out_channels", "G"),
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
        "bits": BITS,
        "group": SIZE,
    },
    bodies={"expanded": write},
    describe=describe,
    reference=compute,
)
