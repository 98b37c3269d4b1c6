"""BilinearLinear -> edgefc::BilinearLinear."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import bilinear
from edgefc.export.build import function
from edgefc.export.described import Described, describe_linear
from edgefc.export.options import Options
from edgefc.layers.common.facts import left_first

NAME = "BilinearLinear"
INPUTS = ("x", "left", "right", "bias")
ATTRIBUTES = {
    "in_features": ir.AttributeType.INT,
    "out_features": ir.AttributeType.INT,
    "in_factors": ir.AttributeType.INTS,
    "out_factors": ir.AttributeType.INTS,
    "terms": ir.AttributeType.INT,
    "left_first": ir.AttributeType.INT,
}


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, bilinear.write, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """What the lowering decides for one node: the order with fewer multiply-adds."""
    return {"left_first": int(left_first(attributes["in_factors"], attributes["out_factors"]))}


def describe(attributes: Mapping[str, Any]) -> Described:
    return describe_linear(attributes, describe_factors(attributes))


def describe_factors(attributes: Mapping[str, Any]) -> str:
    """'64 x 64 to 48 x 64', and the number of terms where there are several."""
    sides = [" x ".join(str(d) for d in attributes[name]) for name in ("in_factors", "out_factors")]
    terms = attributes["terms"]
    return " to ".join(sides) + (f", {terms} terms" if terms > 1 else "")
