"""Tables of the real DFT over the tiles of circulants, for CirculantLinear and CirculantLSTM."""

import math

import numpy as np
import onnx_ir as ir

from edgefc.export.building.body import Body
from edgefc.export.building.seeded import count


def dft(op: Body, period: ir.Value, frequencies: ir.Value) -> ir.Value:
    """Rows (cos, -sin) of each frequency, (2H, L) float64. Angles are reduced exactly, as integers."""
    k = op.Unsqueeze(count(op, frequencies), op.const([1]))
    steps = op.Mod(op.Mul(k, op.Unsqueeze(count(op, period), op.const([0]))), period)  # (H, L)
    circle = op.Div(op.const(2 * math.pi, np.float64), op.Cast(period, to=ir.DataType.DOUBLE))
    angle = op.Mul(op.Cast(steps, to=ir.DataType.DOUBLE), circle)
    cos = op.Sin(op.Add(angle, op.const(math.pi / 2, np.float64)))  # onnxruntime 1.22 has no Cos of float64
    pair = op.Concat(op.Unsqueeze(cos, op.const([1])), op.Neg(op.Unsqueeze(op.Sin(angle), op.const([1]))), axis=1)
    return op.Reshape(pair, op.shape(-1, period))


def weights(op: Body, period: ir.Value, frequencies: ir.Value) -> ir.Value:
    """The factor of each frequency in the inverse: 1 / L for 0 and L/2, 2 / L for the others; (2H, 1) float64."""
    k = count(op, frequencies)
    alone = op.Or(op.Equal(k, op.const(0)), op.Equal(op.Mul(k, op.const(2)), period))
    times = op.Where(alone, op.const(1.0, np.float64), op.const(2.0, np.float64))
    share = op.Div(times, op.Cast(period, to=ir.DataType.DOUBLE))
    return op.Reshape(op.Expand(op.Unsqueeze(share, op.const([1])), op.const([1, 2])), op.const([-1, 1]))
