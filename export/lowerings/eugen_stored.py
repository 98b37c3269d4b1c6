"""EUGenLinear with trained or orthogonal projections, which are stored -> edgefc::EUGenStoredLinear."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import eugen
from edgefc.export.build import function
from edgefc.export.described import Described, describe_linear
from edgefc.export.lowerings.eugen import SIZES, what
from edgefc.export.options import Options

NAME = "EUGenStoredLinear"
INPUTS = ("x", "projection", "weight", "bias")
ATTRIBUTES = dict.fromkeys(SIZES, ir.AttributeType.INT)


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, eugen.stored, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Nothing to decide per node."""
    return {}


def describe(attributes: Mapping[str, Any]) -> Described:
    return describe_linear(attributes, f"{what(attributes)}, stored projections")
