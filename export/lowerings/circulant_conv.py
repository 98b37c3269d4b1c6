"""CirculantConv2d -> edgefc::CirculantConv2d."""

import math
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import circulant_conv
from edgefc.export.build import function
from edgefc.export.described import Described, unsigned
from edgefc.export.options import Options

NAME = "CirculantConv2d"
INPUTS = ("x", "kernel", "bias")
ATTRIBUTES = {
    **dict.fromkeys(
        ("in_channels", "out_channels", "block", "sign_seed", "spectral", "blocks_in", "blocks_out", "pairs"),
        ir.AttributeType.INT,
    ),
    **dict.fromkeys(circulant_conv.WINDOW, ir.AttributeType.INTS),
}


_VECTOR, _MOVE = 16, 44


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, circulant_conv.write, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Which way the body goes, and how many groups each of its convolutions has: attributes in ONNX."""
    n, m, b = (int(attributes[name]) for name in ("in_channels", "out_channels", "block"))
    kernel, stride = math.prod(attributes["kernel_shape"]), math.prod(attributes["strides"])
    if _spectral_cost(n, m, b, kernel, stride) >= n * m * kernel:
        return {"spectral": 0, "blocks_in": 1, "blocks_out": 1, "pairs": 1}
    return {"spectral": 1, "blocks_in": math.ceil(n / b), "blocks_out": math.ceil(m / b), "pairs": math.ceil(b / 2)}


def describe(attributes: Mapping[str, Any]) -> Described:
    n, m = int(attributes["in_channels"]), int(attributes["out_channels"])
    height, width = (int(size) for size in attributes["kernel_shape"])
    seed = unsigned(attributes["sign_seed"])
    return Described(
        shape=f"{m} x {n} x {height} x {width}",
        dense=m * n * height * width + m,
        detail=f"block {attributes['block']}, signs from seed {seed}",
    )


def _spectral_cost(n: int, m: int, b: int, kernel: int, stride: int) -> float:
    """Of the way over frequencies, for one output pixel, in multiply-adds of a dense convolution.

    onnxruntime's convolutions take 16 channels a group at a time, so smaller groups cost as much; moving a channel
    costs about 44. Both were read off measurements on one processor: tests/bench/circulant_conv.py.
    """
    p, q, pairs = math.ceil(m / b), math.ceil(n / b), math.ceil(b / 2)
    transforms = 2 * pairs * (stride * q * min(n, b) + p * min(m, b))
    products = 4 * pairs * p * q * kernel * max(1, _VECTOR / (2 * min(p, q)))
    moves = 2 * pairs * ((stride * q if q > 1 else 0) + (p if p > 1 else 0))
    return transforms + products + _MOVE * moves
