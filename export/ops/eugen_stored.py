"""edgefc::EUGenStoredLinear: EUGenLinear with stored projections, which are trained or orthogonal."""

from edgefc.export.building.described import Described, describe_linear
from edgefc.export.building.reference import Attributes
from edgefc.export.operator import Operator
from edgefc.export.ops.eugen import SIZES, compute_stored, stored, what


def describe(attributes: Attributes) -> Described:
    return describe_linear(attributes, f"{what(attributes)}, stored projections")


OPERATOR = Operator(
    "EUGenStoredLinear",
    "EUGenLinear with stored projections (orthogonal or trained)",
    inputs={
        "x": (..., "in_features"),
        "projection": ("P m", "d + e"),
        "weight": ("out_features", "features * order"),
        "bias": ("out_features",),
    },
    attributes=SIZES,
    bodies={"projections": stored},
    describe=describe,
    reference=compute_stored,
)
