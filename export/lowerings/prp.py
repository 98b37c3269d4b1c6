"""PRPLinear -> edgefc::PRPLinear."""

import math
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import prp
from edgefc.export.build import function
from edgefc.export.described import Described, describe_linear, unsigned
from edgefc.export.options import Options
from edgefc.generator import words_per_row

NAME = "PRPLinear"
INPUTS = ("x", "in_scale", "out_scale", "bias")
ATTRIBUTES = {
    "in_features": ir.AttributeType.INT,
    "out_features": ir.AttributeType.INT,
    "seed": ir.AttributeType.INT,
    "distribution": ir.AttributeType.STRING,
    "bits": ir.AttributeType.INT,
    "codebook": ir.AttributeType.FLOATS,
}


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    bodies = {"resident": prp.resident, "streaming": prp.streaming}
    return function(NAME, INPUTS, ATTRIBUTES, bodies[options.prp], opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Nothing to decide per node."""
    return {}


def describe(attributes: Mapping[str, Any]) -> Described:
    return describe_linear(attributes, f"{attributes['distribution']}, seed {unsigned(attributes['seed'])}")


def numbers_held(attributes: Mapping[str, Any]) -> int:
    """How many numbers of the matrix the resident body keeps: whole bands of rows, rows of whole words."""
    m, n, bits = (int(attributes[name]) for name in ("out_features", "in_features", "bits"))
    return math.ceil(m / prp.BANDS) * prp.BANDS * words_per_row(n, bits) * 32 // bits
