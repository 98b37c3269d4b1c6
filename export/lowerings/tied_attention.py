"""The projections of TiedAttention that share a matrix -> edgefc::TiedProjection; what is between them is standard."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import tied_attention
from edgefc.export.build import function
from edgefc.export.described import Described, describe_linear
from edgefc.export.options import Options

NAME = "TiedProjection"
INPUTS = ("x", "weight", "bias")
ATTRIBUTES = dict.fromkeys(("in_features", "out_features", "transB"), ir.AttributeType.INT)


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, tied_attention.write, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Nothing to decide per node."""
    return {}


def describe(attributes: Mapping[str, Any]) -> Described:
    return describe_linear(attributes, "as stored" if attributes["transB"] else "transposed")
