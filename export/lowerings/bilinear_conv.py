"""BilinearConv2d -> edgefc::BilinearConv2d."""

import math
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import bilinear_conv
from edgefc.export.build import function
from edgefc.export.described import Described
from edgefc.export.lowerings.bilinear import describe_factors
from edgefc.export.options import Options

NAME = "BilinearConv2d"
INPUTS = ("x", "left", "right", "bias")
ATTRIBUTES = {
    **dict.fromkeys(("in_channels", "out_channels", "same_upper", "terms", "form"), ir.AttributeType.INT),
    **dict.fromkeys(("kernel_shape", "strides", "pads", "in_factors", "out_factors"), ir.AttributeType.INTS),
}


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, bilinear_conv.write, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """What the lowering decides for one node: a convolution with the expanded weight, or products of patches."""
    if _factors_pay(attributes):
        return {"form": bilinear_conv.FACTORED}
    return {"form": bilinear_conv.SAME_UPPER if attributes["same_upper"] else bilinear_conv.PADS}


def describe(attributes: Mapping[str, Any]) -> Described:
    patch, outputs = _patch(attributes), attributes["out_channels"]
    height, width = attributes["kernel_shape"]
    return Described(
        shape=f"{outputs} x {attributes['in_channels']} x {height} x {width}",
        dense=patch * outputs + outputs,
        detail=describe_factors(attributes),
    )


def _patch(attributes: Mapping[str, Any]) -> int:
    return int(math.prod(attributes["kernel_shape"]) * attributes["in_channels"])


def _factors_pay(attributes: Mapping[str, Any]) -> bool:
    """Whether the products of patches are at least half as fast again as the convolution, by count for one position.

    Their multiply-adds, 16 for each number of a patch, which has to be gathered, and 16,000 for the small product of
    each position: read off measurements with tests/bench/bilinear_conv.py, one thread. Patches that are padded and
    channels that are cut are left to the convolution.
    """
    (d1, d2), (u1, u2) = attributes["in_factors"], attributes["out_factors"]
    patch, outputs = _patch(attributes), attributes["out_channels"]
    if (d1 * d2, u1 * u2) != (patch, outputs):
        return False
    products = attributes["terms"] * u2 * d1 * (d2 + u1)
    return bool(1.5 * (products + 16 * patch + 16_000) < patch * outputs)
