"""EUGenLinear with projections from a seed -> edgefc::EUGenLinear."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import eugen
from edgefc.export.build import function
from edgefc.export.described import Described, activation_name, describe_linear, unsigned
from edgefc.export.options import Options

NAME = "EUGenLinear"
INPUTS = ("x", "weight", "bias")
SIZES = ("in_features", "out_features", "features", "order", "shared", "norm", "one", "activation")
ATTRIBUTES = {
    **dict.fromkeys((*SIZES, "seed", "bits"), ir.AttributeType.INT),
    "distribution": ir.AttributeType.STRING,
    "codebook": ir.AttributeType.FLOATS,
}


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, eugen.seeded, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Nothing to decide per node."""
    return {}


def describe(attributes: Mapping[str, Any]) -> Described:
    drawn = f"{attributes['distribution']}, seed {unsigned(attributes['seed'])}"
    return describe_linear(attributes, f"{what(attributes)}, {drawn}")


def what(attributes: Mapping[str, Any]) -> str:
    """What both ops of this layer say of themselves."""
    activation = activation_name(attributes)
    return f"{attributes['features']} features of order {attributes['order']}, {activation}"
