"""TiedBottleneck -> edgefc::TiedBottleneck, one node a block."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import tied_bottleneck
from edgefc.export.build import function
from edgefc.export.described import Described
from edgefc.export.options import Options

NAME = "TiedBottleneck"
_NORM = ("scale", "shift", "mean", "variance")
INPUTS = (
    "x",
    "weight",
    *(f"{name}_in" for name in _NORM),
    "kernel",
    *(f"{name}_out" for name in _NORM),
)
ATTRIBUTES = {
    "channels": ir.AttributeType.INT,
    "width": ir.AttributeType.INT,
    "epsilon_in": ir.AttributeType.FLOAT,
    "epsilon_out": ir.AttributeType.FLOAT,
}


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, tied_bottleneck.write, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Nothing to decide per node."""
    return {}


def describe(attributes: Mapping[str, Any]) -> Described:
    """In the place of two 1x1 convolutions and the 3x3 one and two norms, of eight numbers a channel, between them."""
    c, w = int(attributes["channels"]), int(attributes["width"])
    return Described(shape=f"{w} x {c} and back", dense=2 * c * w + 9 * w * w + 8 * w, detail="3 x 3 within")
