"""edgefc::PRPConv2d in standard operators: the weight, regenerated, and a Conv.

The runtime folds the weight when it loads the file: the file is tiny, memory and speed are those of a dense
convolution. Outputs are scaled and shifted behind the Conv, since each product with the whole weight is one more copy
of it while the runtime folds; where a Conv is alone, onnxruntime then takes both into it.

onnxruntime folds in two passes and keeps the scratch of each until it is over. The weight of `early` outputs is folded
in the first; if there are more, their weight stands in an If that the first pass opens, and is folded in the second.

Letters: C input channels, m output channels, n = C kh kw.
"""

import onnx_ir as ir

from edgefc.export.bodies.prp import Source
from edgefc.export.build import Body
from edgefc.export.seeded import count


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
