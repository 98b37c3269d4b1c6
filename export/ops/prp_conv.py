"""edgefc::PRPConv2d in standard operators: the weight is computed from the seed, then used by a Conv.

The runtime folds the weight when it loads the file. The file is tiny, and memory and speed are those of a dense
convolution. Outputs are scaled and shifted after the Conv, because each product with the whole weight needs another
copy of it while the runtime folds. If there is only one Conv, onnxruntime merges scale and shift into it.

onnxruntime folds in two passes and keeps the scratch of each pass until the pass ends. The weight of `early` outputs is
folded in the first pass. The weight of the other outputs is inside an If, which the first pass inlines, so the second
pass folds it.

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


_WHOLE = 1 << 18  # up to a megabyte of float32 is folded at once: two Convs are some percent slower than one


def prepare(attributes: Attributes) -> dict[str, int]:
    """The attribute that the exporter adds to a node: the number of outputs whose weight the first pass folds."""
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
    "a convolution whose weight is P (m, C kh kw) from the seed, scaled on both sides",
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
