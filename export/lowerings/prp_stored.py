"""PRPLinear with a stored matrix -> edgefc::PRPStoredLinear."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import prp_stored
from edgefc.export.build import function
from edgefc.export.described import Described, describe_linear
from edgefc.export.options import Options

NAME = "PRPStoredLinear"
INPUTS = ("x", "projection", "in_scale", "out_scale", "bias")
ATTRIBUTES = dict.fromkeys(("in_features", "out_features"), ir.AttributeType.INT)


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, prp_stored.write, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Nothing to decide per node."""
    return {}


def describe(attributes: Mapping[str, Any]) -> Described:
    return describe_linear(attributes, "orthogonal, stored")
