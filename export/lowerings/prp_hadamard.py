"""PRPLinear with a seeded transform -> edgefc::PRPHadamardLinear."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import prp_hadamard
from edgefc.export.build import function
from edgefc.export.described import Described, describe_linear, unsigned
from edgefc.export.options import Options
from edgefc.layers.common.facts import cut

NAME = "PRPHadamardLinear"
INPUTS = ("x", "in_scale", "out_scale", "bias")
ATTRIBUTES = dict.fromkeys(("in_features", "out_features", "seed", "high", "low"), ir.AttributeType.INT)


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, prp_hadamard.write, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """What the lowering decides for one node: the lengths of the two transforms that make up one."""
    found = cut(attributes["in_features"], attributes["out_features"])
    return {"high": found.high, "low": found.low}


def describe(attributes: Mapping[str, Any]) -> Described:
    return describe_linear(attributes, f"hadamard, seed {unsigned(attributes['seed'])}")
