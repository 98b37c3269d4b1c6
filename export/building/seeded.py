"""The seeded matrix in ONNX operators, with exactly the bits that edgefc/generator/README.md specifies."""

import numpy as np
import onnx_ir as ir

from edgefc.export.building.body import Body
from edgefc.generator import (
    KEY_1,
    KEY_2,
    KEY_3,
    MULTIPLY_1,
    MULTIPLY_2,
    SHIFT_1,
    SHIFT_2,
    SHIFT_3,
    STRIDE,
    WORD_SHIFTS,
)

UINT32 = ir.DataType.UINT32


def keys(op: Body, seed: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Two keys, each (1,) uint32, from the seed, an int64 scalar whose bits are read as unsigned."""
    whole = op.Cast(op.Reshape(seed, op.const([1])), to=ir.DataType.UINT64)
    low = op.Cast(op.BitwiseAnd(whole, op.const([0xFFFFFFFF], np.uint64)), to=UINT32)
    high = op.Cast(op.BitShift(whole, op.const([32], np.uint64), direction="RIGHT"), to=UINT32)
    low = op.BitwiseXor(low, _mix(op, op.Add(high, _u32(op, KEY_1))))
    high = op.BitwiseXor(high, _mix(op, op.Add(low, _u32(op, KEY_2))))
    low = op.BitwiseXor(low, _mix(op, op.Add(high, _u32(op, KEY_3))))
    return low, high


def words(op: Body, key: tuple[ir.Value, ir.Value], rows: ir.Value, columns: ir.Value) -> ir.Value:
    """word(seed, row, column): rows (r,), columns (c,), int64 -> (r, c) uint32."""
    row = op.Cast(op.Unsqueeze(rows, op.const([1])), to=UINT32)
    column = op.Cast(op.Unsqueeze(columns, op.const([0])), to=UINT32)
    start = _mix(op, op.Add(row, key[0]))  # (r, 1)
    twist = _mix(op, op.BitwiseXor(op.Mul(row, _u32(op, STRIDE)), key[1]))  # (r, 1)
    h = op.Add(start, op.Mul(column, _u32(op, STRIDE)))  # (r, c)
    h = op.BitwiseXor(op.Mul(_fold(op, h, WORD_SHIFTS[0]), _u32(op, MULTIPLY_1)), twist)
    h = op.Mul(_fold(op, h, WORD_SHIFTS[1]), _u32(op, MULTIPLY_2))
    return _fold(op, h, WORD_SHIFTS[2])


def cut(op: Body, grid: ir.Value, bits: ir.Value, used: ir.Value, *, lean: bool = False) -> ir.Value:
    """The low `used` bits of words (r, c) in pieces of `bits` bits, low bits first: (r, c, used / bits) int32.

    onnxruntime is slow if the inner axis is short. Therefore the axis of pieces is first during the computation and is
    moved to the end afterwards. lean=True omits this transposition, for words that are cut once and must need little
    scratch memory.
    """
    shifts = op.Cast(op.Range(op.const(0), used, bits), to=UINT32)
    mask = op.Sub(op.BitShift(_u32(op, 1), op.Cast(bits, to=UINT32), direction="LEFT"), _u32(op, 1))
    if lean:
        grid = op.Unsqueeze(grid, op.const([-1]))
    else:
        shifts = op.Unsqueeze(shifts, op.const([1, 2]))
    pieces = op.BitwiseAnd(op.BitShift(grid, shifts, direction="RIGHT"), mask)
    pieces = op.Cast(pieces, to=ir.DataType.INT32)
    return pieces if lean else op.Transpose(pieces, perm=[1, 2, 0])


def count(op: Body, stop: ir.Value, start: ir.Value | None = None) -> ir.Value:
    """start ... stop - 1 as (k,) int64."""
    return op.Range(op.const(0) if start is None else start, stop, op.const(1))


def ceil_div(op: Body, a: ir.Value, b: ir.Value) -> ir.Value:
    """ceil(a / b) of integers, a >= 1, b >= 1."""
    return op.Div(op.Add(a, op.Sub(b, op.const(1))), b)


def signs(op: Body, seed: ir.Value, n: ir.Value, row: int = 0) -> ir.Value:
    """n signs, (n,) float32, +1 or -1: one row of the Rademacher matrix."""
    column_words = count(op, ceil_div(op, n, op.const(32)))
    grid = words(op, keys(op, seed), op.const([row]), column_words)  # (1, w)
    one = op.Cast(cut(op, grid, op.const(1), op.const(32)), to=ir.DataType.FLOAT)  # (1, w, 32)
    values = op.Sub(op.const([1.0], np.float32), op.Mul(one, op.const([2.0], np.float32)))
    return op.Slice(op.Reshape(values, op.const([-1])), op.const([0]), op.Reshape(n, op.const([1])))


def _fold(op: Body, h: ir.Value, shift: int) -> ir.Value:
    return op.BitwiseXor(h, op.BitShift(h, _u32(op, shift), direction="RIGHT"))


def _mix(op: Body, h: ir.Value) -> ir.Value:
    h = op.Mul(_fold(op, h, SHIFT_1), _u32(op, MULTIPLY_1))
    h = op.Mul(_fold(op, h, SHIFT_2), _u32(op, MULTIPLY_2))
    return _fold(op, h, SHIFT_3)


def _u32(op: Body, value: int) -> ir.Value:
    return op.const([value], np.uint32)
