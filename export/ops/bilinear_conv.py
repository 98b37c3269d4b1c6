"""edgefc::BilinearConv2d in standard operators, in two forms; prepare() chooses one for each node.

    PADS, SAME_UPPER    the weight is expanded and folded at load, then one Conv: a small file with the speed and memory
                        of a dense convolution
    FACTORED            patches are gathered, then both products are computed at each position: fewer multiply-adds,
                        several times faster at 128 channels and more; the patches need kh kw times the memory of the
                        input

The factored form starts with the right product, which is one large product with a matrix that is packed at load. The
left product is a small one at each position. It also sums over the terms.

Letters: C, M input and output channels, kh x kw kernel, D = kh kw C = d1 d2 values in a patch, M = u1 u2, T terms.
"""

import math

import onnx_ir as ir

from edgefc.attributes import FLAG, PADDING, PAIR, SIZE, whole
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_factors
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import count
from edgefc.export.operator import Operator

PADS, SAME_UPPER, FACTORED = range(3)


def write(op: Body, x: ir.Value, left: ir.Value, right: ir.Value, bias: ir.Value) -> ir.Value:
    """x (B, C, h, w), left (T, d1, u1), right (T, d2, u2), bias (M,) -> (B, M, h', w')."""
    form = op.attribute("form")
    strides, pads = (ir.RefAttr(name, name, ir.AttributeType.INTS) for name in ("strides", "pads"))

    def padded(inner: Body) -> ir.Value:
        return inner.Conv(x, _weight(inner, left, right), bias, strides=strides, pads=pads)

    def same(inner: Body) -> ir.Value:
        return inner.Conv(x, _weight(inner, left, right), bias, strides=strides, auto_pad="SAME_UPPER")

    y = op.when(op.Equal(form, op.const(PADS)), padded, x)
    y = op.when(op.Equal(form, op.const(SAME_UPPER)), same, y)
    return op.when(op.Equal(form, op.const(FACTORED)), lambda inner: _factored(inner, x, left, right, bias), y)


def _weight(op: Body, left: ir.Value, right: ir.Value) -> ir.Value:
    """sum_t kron(L_t, R_t), cut, as the weight of a convolution: (M, C, kh, kw)."""
    d1, d2, u1, u2 = _sizes(op, left, right)
    patch, outputs, shape = _dense_shape(op)
    terms = op.Shape(left, end=1)
    rows = op.Transpose(op.Reshape(left, op.Concat(terms, op.const([-1]), axis=0)), perm=[1, 0])  # (d1 u1, T)
    total = op.MatMul(rows, op.Reshape(right, op.Concat(terms, op.const([-1]), axis=0)))  # (d1 u1, d2 u2)
    total = op.Transpose(op.Reshape(total, op.Concat(d1, u1, d2, u2, axis=0)), perm=[0, 2, 1, 3])
    total = op.Reshape(total, op.Concat(op.Mul(d1, d2), op.Mul(u1, u2), axis=0))
    ends = op.Concat(patch, outputs, axis=0)
    total = op.Slice(total, op.const([0, 0]), ends, op.const([0, 1]))
    return op.Transpose(op.Reshape(total, shape), perm=[3, 2, 0, 1])


def _factored(op: Body, x: ir.Value, left: ir.Value, right: ir.Value, bias: ir.Value) -> ir.Value:
    d1, d2, u1, u2 = _sizes(op, left, right)
    terms, any_rows = op.Shape(left, end=1), op.const([-1])
    by_right = op.Reshape(op.Transpose(right, perm=[1, 0, 2]), op.Concat(d2, any_rows, axis=0))  # (d2, T u2)
    by_left = op.Reshape(op.Transpose(left, perm=[2, 1, 0]), op.Concat(u1, any_rows, axis=0))  # (u1, d1 T)
    patches, image = _patches(op, x)
    y = op.MatMul(op.Reshape(patches, op.Concat(any_rows, d2, axis=0)), by_right)  # (B h' w' d1, T u2)
    y = op.Reshape(y, op.Concat(any_rows, op.Mul(d1, terms), u2, axis=0))
    y = op.MatMul(by_left, y)  # (B h' w', u1, u2)
    y = op.Reshape(y, op.Concat(any_rows, op.ReduceProd(image), op.Mul(u1, u2), axis=0))
    y = op.Transpose(y, perm=[0, 2, 1])
    y = op.Reshape(y, op.Concat(any_rows, op.Mul(u1, u2), image, axis=0))
    return op.Add(y, op.Reshape(bias, op.const([-1, 1, 1])))


def _patches(op: Body, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The patch at each position, (B, h', w', kh, kw, C), and the size of the output (h', w')."""
    kernel, strides = op.attribute("kernel_shape", tuple), op.attribute("strides", tuple)
    size = op.Shape(x, start=2)
    before, after = _edges(op, size, kernel, strides)
    zero = op.const([0])
    image = op.Transpose(x, perm=[0, 2, 3, 1])
    image = op.Pad(image, op.Concat(zero, before, zero, zero, after, zero, axis=0))
    whole = op.Add(size, op.Add(before, after))
    image = op.Reshape(image, op.Concat(op.const([-1]), op.ReduceProd(whole), op.Shape(x, start=1, end=2), axis=0))
    outputs = op.Add(op.Div(op.Sub(whole, kernel), strides), op.const([1]))
    rows, columns = (_seen(op, outputs, kernel, strides, axis) for axis in (0, 1))  # (h', kh), (w', kw)
    rows = op.Unsqueeze(op.Mul(rows, op.Gather(whole, op.const(1))), op.const([1, 3]))
    return op.Gather(image, op.Add(rows, op.Unsqueeze(columns, op.const([0, 2]))), axis=1), outputs


def _seen(op: Body, outputs: ir.Value, kernel: ir.Value, strides: ir.Value, axis: int) -> ir.Value:
    """The indices along one axis of the padded image that each output reads: (outputs, kernel)."""
    at = op.const(axis)
    first = op.Mul(count(op, op.Gather(outputs, at)), op.Gather(strides, at))
    return op.Add(op.Unsqueeze(first, op.const([1])), count(op, op.Gather(kernel, at)))


def _edges(op: Body, size: ir.Value, kernel: ir.Value, strides: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The padding at the start and at the end of both axes, each (2,): the attribute pads, or that of SAME_UPPER."""
    one, two = op.const([1]), op.const([2])
    outputs = op.Div(op.Sub(op.Add(size, strides), one), strides)
    total = op.Max(op.Sub(op.Add(op.Mul(op.Sub(outputs, one), strides), kernel), size), op.const([0]))
    half = op.Div(total, two)
    same, pads = op.Cast(op.attribute("same_upper"), to=ir.DataType.BOOL), op.attribute("pads", tuple)
    before = op.Where(same, half, op.Slice(pads, op.const([0]), two))
    return before, op.Where(same, op.Sub(total, half), op.Slice(pads, two, op.const([4])))


def _sizes(op: Body, left: ir.Value, right: ir.Value) -> tuple[ir.Value, ...]:
    """d1, d2, u1, u2, each (1,)."""
    return tuple(op.Shape(factor, start=axis, end=axis + 1) for axis in (1, 2) for factor in (left, right))


def _dense_shape(op: Body) -> tuple[ir.Value, ir.Value, ir.Value]:
    """D (1,), M (1,), and (kh, kw, C, M)."""
    kernel, channels = op.attribute("kernel_shape", tuple), op.shape(op.attribute("in_channels"))
    outputs = op.shape(op.attribute("out_channels"))
    patch = op.Concat(kernel, channels, axis=0)
    return op.ReduceProd(patch), outputs, op.Concat(patch, outputs, axis=0)


def prepare(attributes: Attributes) -> dict[str, int]:
    """The attribute that the exporter adds to a node: convolution with the expanded weight, or products of patches."""
    if _factors_pay(attributes):
        return {"form": FACTORED}
    return {"form": SAME_UPPER if attributes["same_upper"] else PADS}


def describe(attributes: Attributes) -> Described:
    patch, outputs = _patch(attributes), attributes["out_channels"]
    height, width = attributes["kernel_shape"]
    return Described(
        shape=f"{outputs} x {attributes['in_channels']} x {height} x {width}",
        dense=patch * outputs + outputs,
        detail=describe_factors(attributes),
    )


def _patch(attributes: Attributes) -> int:
    return int(math.prod(attributes["kernel_shape"]) * attributes["in_channels"])


def _factors_pay(attributes: Attributes) -> bool:
    """Whether the products of patches are estimated to be at least 1.5 times as fast as the convolution.

    The cost per position is the number of multiply-adds, plus 16 for each value of a patch, which is gathered, plus
    16,000 for the small product. These values come from measurements with tests/bench/bilinear_conv.py on one thread.
    If patches are padded or channels are cut, the convolution is used.
    """
    (d1, d2), (u1, u2) = attributes["in_factors"], attributes["out_factors"]
    patch, outputs = _patch(attributes), attributes["out_channels"]
    if (d1 * d2, u1 * u2) != (patch, outputs):
        return False
    products = attributes["terms"] * u2 * d1 * (d2 + u1)
    return bool(1.5 * (products + 16 * patch + 16_000) < patch * outputs)


def compute(attributes: Attributes, x: Array, left: Array, right: Array, bias: Array) -> Array:
    kernel, strides = attributes["kernel_shape"], attributes["strides"]
    weight = reference.kronecker_sum(left, right, _patch(attributes), attributes["out_channels"])
    weight = weight.reshape(-1, *kernel, attributes["in_channels"]).transpose(0, 3, 1, 2)
    same = attributes["same_upper"]
    pads = reference.same_upper(x.shape[2:], kernel, strides) if same else attributes["pads"]
    return reference.convolve(x, weight, strides, pads) + bias[:, None, None]


OPERATOR = Operator(
    "BilinearConv2d",
    "BilinearLinear for each patch; the values of a patch are in the order (kh, kw, C) with C fastest",
    inputs={
        "x": ("B", "in_channels", "h", "w"),
        "left": ("terms", "d1", "u1"),
        "right": ("terms", "d2", "u2"),
        "bias": ("out_channels",),
    },
    attributes={
        "in_channels": SIZE,
        "out_channels": SIZE,
        "same_upper": FLAG,
        "terms": SIZE,
        "form": whole(0, 2),
        "kernel_shape": PAIR,
        "strides": PAIR,
        "pads": PADDING,
        "in_factors": PAIR,
        "out_factors": PAIR,
    },
    bodies={"forms": write},
    prepare=prepare,
    describe=describe,
    reference=compute,
)
