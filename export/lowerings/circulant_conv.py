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
        ("in_channels", "out_channels", "block", "sign_seed", "blocks_in", "blocks_out", "pairs"), ir.AttributeType.INT
    ),
    **dict.fromkeys(circulant_conv.WINDOW, ir.AttributeType.INTS),
}


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, circulant_conv.write, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """How many groups each convolution of the body has: an attribute in ONNX, so it cannot be computed there."""
    n, m, b = (int(attributes[name]) for name in ("in_channels", "out_channels", "block"))
    return {"blocks_in": math.ceil(n / b), "blocks_out": math.ceil(m / b), "pairs": math.ceil(b / 2)}


def describe(attributes: Mapping[str, Any]) -> Described:
    n, m = int(attributes["in_channels"]), int(attributes["out_channels"])
    height, width = (int(size) for size in attributes["kernel_shape"])
    seed = unsigned(attributes["sign_seed"])
    return Described(
        shape=f"{m} x {n} x {height} x {width}",
        dense=m * n * height * width + m,
        detail=f"block {attributes['block']}, signs from seed {seed}",
    )
