"""edgefc::Int3Linear in standard operators, with two bodies for the same matrix of codes of 3 bits.

    resident    the runtime unpacks the weights when it loads the file, and folds the rotation into them: speed and
                memory of a dense layer
    streaming   the inputs are rotated, and a Loop unpacks a band of rows, uses it and discards it: memory for the
                packed weights and one band, many times slower

onnxruntime keeps everything that it folds until a pass of its optimiser ends. The resident body peaks at four times a
dense layer while it is loaded: 515 MB above onnxruntime's own at 4096 x 4096, a dense layer 127 MB, streaming 11 MB
(onnxruntime 1.31.1).

edgefc/layers/int3/packing.py describes the layout of the codes and scales.

Letters: n inputs, m outputs, K padded inputs, M blocks of 16 rows, U units of 32 columns, G groups.
"""

import math

import numpy as np
import onnx_ir as ir

from edgefc.attributes import FLAG, SEED, SIZE
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_linear, unsigned
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import ceil_div, signs
from edgefc.export.operator import Operator
from edgefc.export.ops.prp_hadamard import hadamard
from edgefc.fitting.rotation import block_of
from edgefc.layers.int3 import packing

BAND_WEIGHTS = 1 << 17
"""The number of weights that the streaming body unpacks at a time: half a megabyte of float32."""

ROTATION_BLOCKS = [1, 2, 4, 8, 16, 32, 64]
"""A block of a rotation is twice the largest of these below n, or 1."""


def resident(op: Body, x: ir.Value, packed: ir.Value, scales: ir.Value, bias: ir.Value) -> ir.Value:
    """The weight folded at load. x (..., n), packed (M, U, 192), scales (M, G, 16), bias (m,) -> (..., m)."""
    n, m = op.attribute("in_features"), op.attribute("out_features")
    values, width = _values(op, packed, scales, bias), _width(op, packed)  # (16 M, K)

    def turned_back(inner: Body) -> ir.Value:
        rotated = _transform(inner, values, bias)
        return inner.Mul(inner.Reshape(rotated, inner.shape(-1, width)), _signs(inner, width, bias))

    def cut(inner: Body) -> ir.Value:
        return inner.Slice(weight, inner.const([0]), inner.shape(m), inner.const([0]))

    weight = op.when(_is_rotated(op), turned_back, values)
    stored = op.Mul(op.Shape(packed, end=1), op.const([packing.ROWS]))
    weight = op.when(op.Greater(op.Squeeze(stored), m), cut, weight)  # a Slice of all rows would be a copy
    weight = op.when(op.Greater(width, n), lambda inner: inner.first(weight, n), weight)
    return _finish(op, op.Gemm(op.Reshape(x, op.shape(-1, n)), weight, bias, transB=1), x)


def streaming(op: Body, x: ir.Value, packed: ir.Value, scales: ir.Value, bias: ir.Value) -> ir.Value:
    """The weight is unpacked and discarded a band of blocks at a time. Shapes as in resident()."""
    n, m, width = op.attribute("in_features"), op.attribute("out_features"), _width(op, packed)
    rows = op.Reshape(x, op.shape(-1, n))
    padded = op.when(op.Greater(width, n), lambda inner: inner.pad(rows, inner.Sub(width, n)), rows)

    def turned(inner: Body) -> ir.Value:
        signed = inner.Mul(padded, _signs(inner, width, bias))
        return inner.Reshape(_transform(inner, signed, bias), inner.shape(-1, width))

    u = op.when(_is_rotated(op), turned, padded)  # (B, K)
    blocks = ceil_div(op, m, op.const(packing.ROWS))
    band = op.Div(op.const(BAND_WEIGHTS // packing.ROWS), width)
    band = op.Min(op.Max(band, op.const(1)), blocks)
    trips = ceil_div(op, blocks, band)

    def step(inner: Body, i: ir.Value) -> ir.Value:
        """The last band begins earlier, so that all bands have the same height."""
        start = inner.Min(inner.Mul(i, band), inner.Sub(blocks, band))
        ends = [inner.shape(start), inner.shape(inner.Add(start, band)), inner.const([0])]
        return inner.Gemm(u, _values(inner, inner.Slice(packed, *ends), inner.Slice(scales, *ends), bias), transB=1)

    height = op.Mul(band, op.const(packing.ROWS))
    y = op.Transpose(op.loop(trips, step), perm=[1, 0, 2])  # (B, trips, height)
    y = op.Reshape(y, op.shape(-1, op.Mul(trips, height)))
    before = op.Mul(op.Sub(trips, op.const(1)), height)
    repeated = op.Sub(op.Mul(trips, height), op.Mul(blocks, op.const(packing.ROWS)))
    last = op.Slice(y, op.shape(op.Add(before, repeated)), op.shape(op.Mul(trips, height)), op.const([1]))
    y = op.first(op.Concat(op.first(y, before), last, axis=1), m)
    return _finish(op, op.Add(y, bias), x)


def _values(op: Body, packed: ir.Value, scales: ir.Value, like: ir.Value) -> ir.Value:
    """The matrix of blocks of codes, (16 M, K), in the dtype of `like`."""

    def u8(*values: int) -> ir.Value:
        return op.const(values, np.uint8)

    words = op.Reshape(packed, op.const([0, -1, 3, packing.ROWS, 4]))  # 0: M as before
    pair = [words, op.BitShift(words, u8(3), direction="RIGHT")]
    pair = [op.Unsqueeze(op.BitwiseAnd(part, u8(7)), op.const([3])) for part in pair]
    six = op.Reshape(op.Concat(*pair, axis=3), op.const([0, -1, 6, packing.ROWS, 4]))
    rest = op.BitShift(words, u8(6), direction="RIGHT")
    low = op.Slice(rest, op.const([0]), op.const([2]), op.const([2]))
    high = op.Slice(rest, op.const([2]), op.const([3]), op.const([2]))
    high = op.Concat(op.BitwiseAnd(high, u8(1)), op.BitShift(high, u8(1), direction="RIGHT"), axis=2)
    two = op.BitwiseOr(low, op.BitShift(high, u8(2), direction="LEFT"))
    codes = op.Transpose(op.Concat(six, two, axis=2), perm=[0, 3, 1, 2, 4])  # (M, 16, U, 8, 4)
    codes = op.CastLike(op.Reshape(codes, op.shape(-1, op.attribute("group"))), like)
    steps = op.CastLike(op.Reshape(op.Transpose(scales, perm=[0, 2, 1]), op.const([-1, 1])), like)  # (16 M G, 1)
    values = op.Mul(op.Sub(codes, op.CastLike(op.const([4.0], np.float32), like)), steps)
    return op.Reshape(values, op.shape(-1, _width(op, packed)))


def _width(op: Body, packed: ir.Value) -> ir.Value:
    """K, from the shape of the codes."""
    units = op.Shape(packed, start=1, end=2)
    return op.Reshape(op.Mul(units, op.const([packing.COLUMNS])), op.const([], np.int64))


def _is_rotated(op: Body) -> ir.Value:
    return op.Equal(op.attribute("rotated"), op.const(1))


def _block(op: Body) -> ir.Value:
    """The block of the rotation: the power of two from n on, at most 128."""
    doublings = op.Less(op.const(ROTATION_BLOCKS), op.attribute("in_features"))
    power = op.ReduceSum(op.Cast(doublings, to=ir.DataType.INT64), op.const([0]), keepdims=0)
    block = op.BitShift(op.const(1, np.uint64), op.Cast(power, to=ir.DataType.UINT64), direction="LEFT")
    return op.Cast(block, to=ir.DataType.INT64)


def _signs(op: Body, width: ir.Value, like: ir.Value) -> ir.Value:
    """The signs of the rotation divided by the root of its block, (K,)."""
    root = op.Sqrt(op.Cast(_block(op), to=ir.DataType.DOUBLE))
    values = op.Cast(signs(op, op.attribute("seed"), width), to=ir.DataType.DOUBLE)
    return op.CastLike(op.Div(values, root), like)


def _transform(op: Body, values: ir.Value, like: ir.Value) -> ir.Value:
    """Blocks of (., K) times the Walsh-Hadamard matrix of +1 and -1: (., block)."""
    block = _block(op)
    return op.MatMul(op.Reshape(values, op.shape(-1, block)), hadamard(op, block, like))


def _finish(op: Body, y: ir.Value, x: ir.Value) -> ir.Value:
    """y (B, m) in the shape of x: (..., m)."""
    return op.Reshape(y, op.Concat(op.Shape(x, end=-1), op.shape(op.attribute("out_features")), axis=0), allowzero=1)


def describe(attributes: Attributes) -> Described:
    rotation = f", rotated, seed {unsigned(attributes['seed'])}" if attributes["rotated"] else ""
    return describe_linear(attributes, f"3 bits, groups of {attributes['group']}{rotation}")


def numbers_held(attributes: Attributes) -> int:
    """The number of values of the weight that the resident body keeps."""
    return int(attributes["in_features"]) * int(attributes["out_features"])


def compute(attributes: Attributes, x: Array, packed: Array, scales: Array, bias: Array) -> Array:
    n, m, group = attributes["in_features"], attributes["out_features"], attributes["group"]
    codes = packing.unpack(packed.astype(np.uint8), m).astype(np.float64)
    weight = (codes - packing.ZERO) * np.repeat(packing.unpack_scales(scales, m), group, axis=1)
    u = np.concatenate([x, np.zeros((*x.shape[:-1], weight.shape[1] - n))], axis=-1)
    if attributes["rotated"]:
        block = block_of(n)
        u = (u * reference.signs(attributes["seed"], u.shape[-1])).reshape(*u.shape[:-1], -1, block)
        u = (u @ reference.hadamard(block) / math.sqrt(block)).reshape(*u.shape[:-2], weight.shape[1])
    result: Array = u @ weight.T + bias
    return result


OPERATOR = Operator(
    "Int3Linear",
    "`z W^T + b`, W of 3 bits in groups, z the rotated or plain x",
    inputs={
        "x": (..., "in_features"),
        "packed": ("M", "U", "192"),
        "scales": ("M", "G", "16"),
        "bias": ("out_features",),
    },
    attributes={"in_features": SIZE, "out_features": SIZE, "group": SIZE, "rotated": FLAG, "seed": SEED},
    bodies={"resident": resident, "streaming": streaming},
    describe=describe,
    held=numbers_held,
    reference=compute,
)
