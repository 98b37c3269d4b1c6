"""edgefc::PRPHadamardLinear in standard operators: two Walsh-Hadamard transforms, each of two small matrix products.

    in_scale, signs > rows of `low` > H > signs > H > out_scale > bias

H of length N = high * low is kron(H_high, H_low). For values arranged row by row as a (high, low) matrix U, the
transform is H_high U H_low. Rows of the input after n are zeros and are left out of the products. Rows of the output
after m are not computed. When the runtime loads the file, it folds everything except the four products with the data:
about 3 N values. Between the transforms rows and columns are exchanged, which saves two transpositions of the data.

Letters: n inputs, m outputs, N the smallest power of two that is at least as large as both.
"""

import math

import numpy as np
import onnx_ir as ir

from edgefc.attributes import SEED, SIZE
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_linear, unsigned
from edgefc.export.building.projection import finish
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import UINT32, ceil_div, count, signs
from edgefc.export.operator import Operator
from edgefc.layers.common.facts import cut as transform_cut


def write(op: Body, x: ir.Value, in_scale: ir.Value, out_scale: ir.Value, bias: ir.Value) -> ir.Value:
    """x (..., n), in_scale (n,), out_scale (m,), bias (m,) -> (..., m)."""
    n, m, high, low = (op.attribute(name) for name in ("in_features", "out_features", "high", "low"))
    seed, length = op.attribute("seed"), op.Mul(high, low)
    rows_in, rows_out = ceil_div(op, n, low), ceil_div(op, m, low)
    tall, wide = hadamard(op, high, in_scale), hadamard(op, low, in_scale)

    u = op.Mul(op.Reshape(x, op.shape(-1, n)), op.Mul(in_scale, _over_root(op, signs(op, seed, n), length, in_scale)))
    reach = op.Mul(rows_in, low)
    u = op.when(op.Greater(reach, n), lambda inner: inner.pad(u, inner.Sub(reach, n)), u)
    u = op.MatMul(op.Reshape(u, op.shape(-1, low)), wide)  # (B rows_in, low)
    u = _turn(op, u, rows_in, low)  # (B low, rows_in)
    u = op.MatMul(u, op.Slice(tall, op.const([0]), op.shape(rows_in), op.const([0])))  # (B low, high)
    second = op.Reshape(_over_root(op, signs(op, seed, length, row=1), n, in_scale), op.shape(high, low))
    u = op.Mul(op.Reshape(u, op.shape(-1, low, high)), op.Transpose(second, perm=[1, 0]))  # (B, low, high)
    u = op.MatMul(op.Reshape(u, op.shape(-1, high)), op.first(tall, rows_out))  # (B low, rows_out)
    u = op.MatMul(_turn(op, u, low, rows_out), wide)  # (B rows_out, low)
    reach = op.Mul(rows_out, low)
    y = op.Reshape(u, op.shape(-1, reach))
    y = op.when(op.Greater(reach, m), lambda inner: inner.first(y, m), y)
    return finish(op, y, x, out_scale, bias)


def _turn(op: Body, u: ir.Value, rows: ir.Value, columns: ir.Value) -> ir.Value:
    """(B rows, columns) -> (B columns, rows). The Reshape prevents the runtime from merging both into the product."""
    turned = op.Transpose(op.Reshape(u, op.shape(-1, rows, columns)), perm=[0, 2, 1])
    return op.Reshape(turned, op.shape(-1, rows))


def hadamard(op: Body, length: ir.Value, like: ir.Value) -> ir.Value:
    """H of at most 2^16, (length, length): -1 where i & j has an odd number of ones."""
    index = op.Cast(count(op, length), to=UINT32)
    parity = op.BitwiseAnd(op.Unsqueeze(index, op.const([1])), op.Unsqueeze(index, op.const([0])))
    for shift in (8, 4, 2, 1):
        parity = op.BitwiseXor(parity, op.BitShift(parity, op.const([shift], np.uint32), direction="RIGHT"))
    parity = op.Cast(op.BitwiseAnd(parity, op.const([1], np.uint32)), to=ir.DataType.FLOAT)
    entries = op.Sub(op.const([1.0], np.float32), op.Mul(parity, op.const([2.0], np.float32)))
    return op.CastLike(entries, like)


def _over_root(op: Body, values: ir.Value, number: ir.Value, like: ir.Value) -> ir.Value:
    """values / sqrt(number) in the dtype of `like`."""
    root = op.Sqrt(op.Cast(number, to=ir.DataType.DOUBLE))
    return op.CastLike(op.Div(op.Cast(values, to=ir.DataType.DOUBLE), root), like)


def prepare(attributes: Attributes) -> dict[str, int]:
    """The attributes that the exporter adds to a node: the lengths of the two factors of a transform."""
    lengths = transform_cut(attributes["in_features"], attributes["out_features"])
    return {"high": lengths.high, "low": lengths.low}


def describe(attributes: Attributes) -> Described:
    return describe_linear(attributes, f"hadamard, seed {unsigned(attributes['seed'])}")


def compute(attributes: Attributes, x: Array, in_scale: Array, out_scale: Array, bias: Array) -> Array:
    n, m, length = attributes["in_features"], attributes["out_features"], attributes["high"] * attributes["low"]
    matrix = reference.hadamard(length)
    first = reference.signs(attributes["seed"], n) / math.sqrt(length)
    second = reference.signs(attributes["seed"], length, row=1) / math.sqrt(n)
    fixed = (matrix[:m] * second) @ (matrix[:, :n] * first)
    result: Array = (x * in_scale) @ fixed.T * out_scale + bias
    return result


OPERATOR = Operator(
    "PRPHadamardLinear",
    "PRPLinear with a P that is part of two Walsh-Hadamard transforms and seeded signs",
    inputs={
        "x": (..., "in_features"),
        "in_scale": ("in_features",),
        "out_scale": ("out_features",),
        "bias": ("out_features",),
    },
    attributes={"in_features": SIZE, "out_features": SIZE, "seed": SEED, "high": SIZE, "low": SIZE},
    bodies={"transforms": write},
    prepare=prepare,
    describe=describe,
    reference=compute,
)
