"""Packed codes of 2, 4 or 8 bits in ONNX operators. edgefc/layers/quantized/packing.py defines them.

Attributes: bits, group. Letters: R rows, G groups of each row, K = G * group.
"""

import numpy as np
import onnx_ir as ir

from edgefc.export.building.body import Body
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import count


def values(op: Body, packed: ir.Value, scales: ir.Value) -> ir.Value:
    """packed (..., G, bytes), scales (..., G) -> (..., G, group) float32.

    Pieces are computed in uint32, which all runtimes can shift.
    """
    bits = op.attribute("bits")
    wide = op.Cast(op.Unsqueeze(packed, op.const([-1])), to=ir.DataType.UINT32)
    shifts = op.Mul(count(op, op.Div(op.const(8), bits)), bits)
    pieces = op.BitShift(wide, op.Cast(shifts, to=ir.DataType.UINT32), direction="RIGHT")  # (..., G, bytes, 8 / bits)
    levels = op.BitShift(op.const([1], np.uint32), op.Cast(bits, to=ir.DataType.UINT32), direction="LEFT")
    codes = op.BitwiseAnd(pieces, op.Sub(levels, op.const([1], np.uint32)))
    zero = op.Div(op.Cast(levels, to=ir.DataType.FLOAT), op.const([2.0], np.float32))
    steps = op.Sub(op.Cast(codes, to=ir.DataType.FLOAT), zero)
    grouped = op.Concat(op.Shape(packed, end=-1), op.const([-1]), axis=0)
    factors = op.Unsqueeze(op.Cast(scales, to=ir.DataType.FLOAT), op.const([-1]))
    return op.Mul(op.Reshape(steps, grouped), factors)


def reference(attributes: Attributes, packed: Array, scales: Array) -> Array:
    """packed (R, G, bytes), scales (R, G) -> (R, K), in numpy float64."""
    bits = attributes["bits"]
    places = np.stack([packed // 2 ** (bits * place) % 2**bits for place in range(8 // bits)], -1)
    steps = places.reshape(*scales.shape, attributes["group"]) - 2 ** (bits - 1)
    result: Array = (steps * scales[..., None]).reshape(len(scales), -1)
    return result
