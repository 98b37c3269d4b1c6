"""PRPConv2d -> edgefc::PRPConv2d."""

import math
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import prp_conv
from edgefc.export.build import function
from edgefc.export.described import Described, unsigned
from edgefc.export.options import Options

NAME = "PRPConv2d"
INPUTS = ("x", "in_scale", "out_scale", "bias")
ATTRIBUTES = {
    "in_features": ir.AttributeType.INT,
    "out_features": ir.AttributeType.INT,
    "early": ir.AttributeType.INT,
    **dict.fromkeys(("kernel_shape", "strides", "pads", "dilations"), ir.AttributeType.INTS),
    "seed": ir.AttributeType.INT,
    "distribution": ir.AttributeType.STRING,
    "bits": ir.AttributeType.INT,
    "codebook": ir.AttributeType.FLOATS,
}
_WHOLE = 1 << 18  # weights up to a megabyte of float32 are folded at once: two Convs in place of one cost some percent


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, prp_conv.write, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """What the lowering decides for one node: of how many outputs the weight is folded first."""
    n, m = attributes["in_features"], attributes["out_features"]
    return {"early": m if n * m <= _WHOLE else math.ceil(m / 2)}


def describe(attributes: Mapping[str, Any]) -> Described:
    n, m = int(attributes["in_features"]), int(attributes["out_features"])
    height, width = attributes["kernel_shape"]
    channels = n // math.prod((height, width))
    return Described(
        shape=f"{m} x {channels} x {height} x {width}",
        dense=n * m + m,
        detail=f"{attributes['distribution']}, seed {unsigned(attributes['seed'])}",
    )
