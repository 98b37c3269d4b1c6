"""Packed codes of 2, 4 or 8 bits in ONNX operators. edgefc/layers/quantized/packing.py defines them.

Attributes: bits, group. Letters: R rows, G groups of each row, K = G * group.
"""

import numpy as np
import onnx_ir as ir

from edgefc.export.building.body import Body
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import count


def values(op: Body, packed: ir.Value, scales: ir.Value) -> ir.Value:
    """packed (..., G, bytes), scales (..., G) -> (..., G * group) float32.

    The numbers of a byte are a row of a table, which is faster than shifts of each byte. 8 bits need no table.
    """
    bits, group = op.attribute("bits"), op.attribute("group")
    numbers = _table(op, bits)
    looked_up = op.when(
        op.Less(bits, op.const(8)),
        lambda inner: inner.Gather(numbers, inner.Cast(packed, to=ir.DataType.INT32)),
        op.Sub(op.Cast(packed, to=ir.DataType.FLOAT), op.const([128.0], np.float32)),
    )
    steps = op.Reshape(looked_up, op.Concat(op.Shape(packed, end=-1), op.shape(group), axis=0))
    factors = op.Unsqueeze(op.Cast(scales, to=ir.DataType.FLOAT), op.const([-1]))
    width = op.Mul(op.Shape(scales, start=-1), group)
    return op.Reshape(op.Mul(steps, factors), op.Concat(op.Shape(scales, end=-1), width, axis=0))


def _table(op: Body, bits: ir.Value) -> ir.Value:
    """code - 2**(bits - 1) for each code of each byte, low bits first: (256, 8 / bits) float32."""
    shifts = op.Mul(count(op, op.Div(op.const(8), bits)), bits)
    byte = op.Cast(op.Unsqueeze(count(op, op.const(256)), op.const([1])), to=ir.DataType.UINT32)
    pieces = op.BitShift(byte, op.Cast(shifts, to=ir.DataType.UINT32), direction="RIGHT")
    levels = op.BitShift(op.const([1], np.uint32), op.Cast(bits, to=ir.DataType.UINT32), direction="LEFT")
    codes = op.BitwiseAnd(pieces, op.Sub(levels, op.const([1], np.uint32)))
    zero = op.Div(op.Cast(levels, to=ir.DataType.FLOAT), op.const([2.0], np.float32))
    return op.Sub(op.Cast(codes, to=ir.DataType.FLOAT), zero)


def reference(attributes: Attributes, packed: Array, scales: Array) -> Array:
    """packed (R, G, bytes), scales (R, G) -> (R, K), in numpy float64."""
    bits = attributes["bits"]
    places = np.stack([packed // 2 ** (bits * place) % 2**bits for place in range(8 // bits)], -1)
    steps = places.reshape(*scales.shape, attributes["group"]) - 2 ** (bits - 1)
    result: Array = (steps * scales[..., None]).reshape(len(scales), -1)
    return result
