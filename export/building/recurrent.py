"""The recurrence of an LSTM in standard operators, for any products of the input and of the hidden state.

It is a Scan over the steps. The products of the input are computed outside the Scan, for all steps at once. The LSTM
operator of onnxruntime with expanded matrices was measured but is not used: from 256 units on it is slower in all cases
except one, it keeps the dense matrices in memory, it does not support float64, and an empty batch ends the process.
Below 256 units it is several times faster. Microseconds for n inputs, n units and 32 steps, one thread
(tests/bench/lstm.py):

    n       batch   LSTM operator   bilinear    circulant
    64      1               52          282         451
    64      16             429        1,380         914
    256     1              553          338         601
    256     16           5,289        2,311       3,042
    1024    1           13,492          736       1,781
    1024    16          95,593       10,965      19,891

Letters: S steps, B batch, gates in the order i, f, o, g, so that one sigmoid computes three adjacent gates.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgefc.export.building.body import Body

LSTM_OUTPUTS = ("y", "h_n", "c_n")
"""The outputs of every step, the last hidden state and the last cell state."""

LSTM_STATES = {"bias": ("4", "hidden_size"), "h0": ("B", "hidden_size"), "c0": ("B", "hidden_size")}
"""The last inputs of every LSTM operator: the bias, the initial hidden state and the initial cell state."""

Product = Callable[[Body, ir.Value], ir.Value]


def gates_apart(op: Body, weight: ir.Value) -> ir.Value:
    """Weights (4, ...) of the gates i, f, g, o, torch's order and Keras's, as i, f, o, g."""
    return op.Gather(weight, op.const([0, 1, 3, 2]), axis=0)


def recurrence(
    op: Body, z: ir.Value, state: tuple[ir.Value, ir.Value], product: Product, mask: tuple[ir.Value, ir.Value] | None
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Outputs (S, B, 1, ...) of every step, and the last hidden and cell state (B, 1, ...).

    z (S, B, 4, ...) is the contribution of the input and the bias to each gate. state is the initial hidden and cell
    state (B, 1, ...). product(body, h) is the contribution of the hidden state: (B, 4, ...). mask is a condition and a
    factor (...). If the condition is true, the hidden state is multiplied by the factor, which has zeros for units that
    are only padding. The attribute hard_sigmoid chooses the gate function.
    """
    hard = op.Cast(op.attribute("hard_sigmoid"), to=ir.DataType.BOOL)
    soft = op.Not(hard)
    slope, middle, zero, one = (op.CastLike(op.const(v, np.float64), z) for v in (0.2, 0.5, 0.0, 1.0))

    def step(inner: Body, h: ir.Value, c: ir.Value, part: ir.Value) -> tuple[ir.Value, ...]:
        total = inner.Add(part, product(inner, h))
        three, g = inner.several("Split", total, inner.const([3, 1]), outputs=2, axis=1)

        def clipped(body: Body) -> ir.Value:
            return body.Clip(body.Add(body.Mul(three, slope), middle), zero, one)

        def smooth(body: Body) -> ir.Value:
            return body.Sigmoid(three)

        three = inner.when(hard, clipped, three)
        three = inner.when(soft, smooth, three)
        i, f, o = inner.several("Split", three, outputs=3, axis=1, num_outputs=3)
        c = inner.Add(inner.Mul(f, c), inner.Mul(i, inner.Tanh(g)))
        h = inner.Mul(o, inner.Tanh(c))
        if mask is not None:
            unmasked = h
            h = inner.when(mask[0], lambda body: body.Mul(unmasked, mask[1]), unmasked)
        return h, c, inner.Identity(h)

    h, c, y = op.scan(state, z, step)
    return y, h, c
