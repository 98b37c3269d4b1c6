"""edgefc::PRPConv2d in standard operators: the weight, regenerated, and a Conv.

The runtime folds the weight when it loads the file: the file is tiny, memory and speed are those of a dense
convolution. Outputs are scaled and shifted behind the Conv, since each product with the whole weight is one more copy
of it while the runtime folds; where a Conv is alone, onnxruntime then takes both into it.

onnxruntime folds in two passes and keeps the scratch of each until it is over. The weight of `early` outputs is folded
in the first; if there are more, their weight stands in an If that the first pass opens, and is folded in the second.

Letters: C input channels, m output channels, n = C kh kw.
"""

import math

import onnx_ir as ir

from edgefc.attributes import BITS, LEVELS, PADDING, PAIR, SEED, SIZE, TEXT
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, unsigned
from edgefc.export.building.projection import Source
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import count
from edgefc.export.operator import Operator
from edgefc.export.ops.prp import numbers_held


def write(op: Body, x: ir.Value, in_scale: ir.Value, out_scale: ir.Value, bias: ir.Value) -> ir.Value:
    """x (B, C, h, w), in_scale (C, kh, kw), out_scale (m,), bias (m,) -> (B, m, h', w')."""
    n, m, early = (op.attribute(name) for name in ("in_features", "out_features", "early"))
    source = Source(op, in_scale)
    scale = op.Div(in_scale, op.CastLike(op.Sqrt(op.Cast(n, to=ir.DataType.DOUBLE)), in_scale))
    size = op.Concat(op.const([-1]), op.Shape(in_scale), axis=0)

    def outputs(inner: Body, rows: ir.Value) -> ir.Value:
        """(B, rows, h', w'), before they are scaled."""
        weight = source.entries(inner, source.pieces_of(inner, rows, lean=True))  # (rows, n)
        weight = inner.Mul(inner.Reshape(weight, size), scale)  # (rows, C, kh, kw)
        looks = ("kernel_shape", "strides", "pads", "dilations")
        return inner.Conv(x, weight, **{name: ir.RefAttr(name, name, ir.AttributeType.INTS) for name in looks})

    def all_outputs(inner: Body) -> ir.Value:
        return inner.Concat(first, outputs(inner, count(inner, m, early)), axis=1)

    first = outputs(op, count(op, early))
    y = op.when(op.Less(early, m), all_outputs, first)
    return op.Add(op.Mul(y, _per_channel(op, out_scale)), _per_channel(op, bias))


def _per_channel(op: Body, values: ir.Value) -> ir.Value:
    return op.Reshape(values, op.const([-1, 1, 1]))


_WHOLE = 1 << 18  # weights up to a megabyte of float32 are folded at once: two Convs in place of one cost some percent


def prepare(attributes: Attributes) -> dict[str, int]:
    """What the exporter decides for one node: of how many outputs the weight is folded first."""
    n, m = attributes["in_features"], attributes["out_features"]
    return {"early": m if n * m <= _WHOLE else math.ceil(m / 2)}


def describe(attributes: Attributes) -> Described:
    n, m = int(attributes["in_features"]), int(attributes["out_features"])
    height, width = attributes["kernel_shape"]
    channels = n // math.prod((height, width))
    return Described(
        shape=f"{m} x {channels} x {height} x {width}",
        dense=n * m + m,
        detail=f"{attributes['distribution']}, seed {unsigned(attributes['seed'])}",
    )


def compute(attributes: Attributes, x: Array, in_scale: Array, out_scale: Array, bias: Array) -> Array:
    n, m = attributes["in_features"], attributes["out_features"]
    weight = (reference.seeded(attributes, m, n) / math.sqrt(n)).reshape(m, *in_scale.shape) * in_scale
    strides, pads, dilations = (attributes[name] for name in ("strides", "pads", "dilations"))
    y = reference.convolve(x, weight, strides, pads, dilations)
    return y * out_scale[:, None, None] + bias[:, None, None]


OPERATOR = Operator(
    "PRPConv2d",
    "a convolution whose weight is P (m, C kh kw) from the seed, modulated",
    inputs={
        "x": ("B", "C", "h", "w"),
        "in_scale": ("C", "kh", "kw"),
        "out_scale": ("out_features",),
        "bias": ("out_features",),
    },
    attributes={
        "in_features": SIZE,
        "out_features": SIZE,
        "early": SIZE,
        "kernel_shape": PAIR,
        "strides": PAIR,
        "pads": PADDING,
        "dilations": PAIR,
        "seed": SEED,
        "distribution": TEXT,
        "bits": BITS,
        "codebook": LEVELS,
    },
    bodies={"convolution": write},
    prepare=prepare,
    describe=describe,
    held=numbers_held,
    reference=compute,
)
