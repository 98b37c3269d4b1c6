"""edgefc::BilinearLinear in standard operators: two matrix products, for any number of terms.

    pad > (transpose) > product > transpose > product > (transpose) > cut > bias

In each product, one side has all rows of the batch and the other side is a matrix that the runtime packs at load. This
is one large product instead of one small product per row. The multiplied axis must be the last one, so the values are
transposed from (., a, b) to (., b, a). With the right factor first:

    (B d1, d2) times (d2, T u2), transposed to (B u2, d1 T), times (d1 T, u1), transposed to (B, u1 u2)

With the left factor first, the sides are exchanged and the input is transposed instead of the output. The second
product also sums over the terms, so no further step is needed. A variant without transpositions (a small matrix on the
left of that of each row) is up to a tenth faster at 768 and more inputs and a third slower at 256 and fewer, and it
fails on an empty batch in onnxruntime.

Letters: n inputs, m outputs, d1 d2 >= n, u1 u2 >= m, T terms; the first product maps d to u, the second e to v.
"""

import onnx_ir as ir

from edgefc.attributes import FLAG, PAIR, SIZE
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_factors, describe_linear
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator
from edgefc.layers.common.facts import left_first


def write(op: Body, x: ir.Value, left: ir.Value, right: ir.Value, bias: ir.Value) -> ir.Value:
    """x (..., n), left (T, d1, u1), right (T, d2, u2), bias (m,) -> (..., m)."""
    n, m = op.attribute("in_features"), op.attribute("out_features")
    d, u = (op.attribute(name, tuple) for name in ("in_factors", "out_factors"))
    taken, made = op.ReduceProd(d, keepdims=0), op.ReduceProd(u, keepdims=0)
    padded = op.when(op.Greater(taken, n), lambda inner: inner.pad(x, inner.Sub(taken, n)), x)
    y = product(op, op.Reshape(padded, op.Concat(op.const([-1]), d, axis=0)), left, right)
    y = op.Reshape(y, op.Concat(op.Shape(x, end=-1), op.shape(made), axis=0))
    y = op.when(op.Greater(made, m), lambda inner: inner.first(y, m), y)
    return op.Add(y, bias)


def product(op: Body, x: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    """sum_t L_t^T X R_t in the order of the attribute left_first: x (B, d1, d2) -> u1 u2 values per row, in any shape.

    Nodes that depend only on weights are outside of If: the runtime folds them in its first pass, and packs the result.
    """
    left_first = op.Cast(op.attribute("left_first"), to=ir.DataType.BOOL)
    right_first = op.Not(left_first)
    d1, d2, u1, u2 = (op.Shape(factor, start=axis, end=axis + 1) for axis in (1, 2) for factor in (left, right))
    terms = op.Shape(left, end=1)
    by_left, by_right = _matrix(op, left, right_first), _matrix(op, right, left_first)
    into_left, into_right = _rows(op, op.Shape(by_left, end=1)), _rows(op, op.Shape(by_right, end=1))
    after_left, after_right = _rows(op, op.Mul(d2, terms), u1), _rows(op, op.Mul(d1, terms), u2)
    last = _rows(op, u2, u1)

    def before(inner: Body) -> ir.Value:
        y = inner.Reshape(inner.Transpose(x, perm=[0, 2, 1]), into_left)  # (B d2, d1)
        y = inner.Reshape(inner.MatMul(y, by_left), after_left)  # (B, d2 T, u1)
        return inner.Transpose(y, perm=[0, 2, 1])

    def after(inner: Body) -> ir.Value:
        z = inner.Transpose(inner.Reshape(y, after_right), perm=[0, 2, 1])  # (B, u2, d1 T)
        z = inner.MatMul(inner.Reshape(z, into_left), by_left)  # (B u2, u1)
        return inner.Transpose(inner.Reshape(z, last), perm=[0, 2, 1])

    x = op.when(left_first, before, x)  # (B, d1, d2) or (B, u1, d2 T)
    y = op.MatMul(op.Reshape(x, into_right), by_right)  # (B d1, T u2) or (B u1, u2)
    return op.when(right_first, after, y)


def _matrix(op: Body, factor: ir.Value, second: ir.Value) -> ir.Value:
    """The factor (T, d, u) as the matrix of the first product, (d, T u), or, with `second`, of the second, (d T, u)."""
    terms, d = op.Shape(factor, end=1), op.Shape(factor, start=1, end=2)
    rows = op.Mul(d, op.Where(second, terms, op.const([1])))
    return op.Reshape(op.Transpose(factor, perm=[1, 0, 2]), op.Concat(rows, op.const([-1]), axis=0))


def _rows(op: Body, *sizes: ir.Value) -> ir.Value:
    """The shape (-1, *sizes); each size is (1,)."""
    return op.Concat(op.const([-1]), *sizes, axis=0)


def prepare(attributes: Attributes) -> dict[str, int]:
    """The attribute that the exporter adds to a node: the order with fewer multiply-adds."""
    return {"left_first": int(left_first(attributes["in_factors"], attributes["out_factors"]))}


def describe(attributes: Attributes) -> Described:
    return describe_linear(attributes, describe_factors(attributes))


def compute(attributes: Attributes, x: Array, left: Array, right: Array, bias: Array) -> Array:
    n, m = attributes["in_features"], attributes["out_features"]
    result: Array = x @ reference.kronecker_sum(left, right, n, m).T + bias
    return result


OPERATOR = Operator(
    "BilinearLinear",
    "`vec(sum over T of L^T X R) + bias`",
    inputs={
        "x": (..., "in_features"),
        "left": ("terms", "d1", "u1"),
        "right": ("terms", "d2", "u2"),
        "bias": ("out_features",),
    },
    attributes={
        "in_features": SIZE,
        "out_features": SIZE,
        "in_factors": PAIR,
        "out_factors": PAIR,
        "terms": SIZE,
        "left_first": FLAG,
    },
    bodies={"products": write},
    prepare=prepare,
    describe=describe,
    reference=compute,
)
