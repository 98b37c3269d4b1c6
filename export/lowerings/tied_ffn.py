"""TiedFFN -> edgefc::TiedFFN."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import tied_ffn
from edgefc.export.build import function
from edgefc.export.described import Described, activation_name
from edgefc.export.options import Options

NAME = "TiedFFN"
INPUTS = ("x", "weight", "bias_in", "bias_out")
ATTRIBUTES = dict.fromkeys(("d_model", "d_hidden", "activation"), ir.AttributeType.INT)


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, tied_ffn.write, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Nothing to decide per node."""
    return {}


def describe(attributes: Mapping[str, Any]) -> Described:
    """In the place of two linear layers and the function between them."""
    d, h = int(attributes["d_model"]), int(attributes["d_hidden"])
    name = activation_name(attributes)
    return Described(shape=f"{h} x {d} and back", dense=2 * d * h + d + h, detail=name)
