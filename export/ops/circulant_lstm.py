"""edgefc::CirculantLSTM in standard operators: a real FFT made of small matrix products, then the steps.

    signs > DFT over tiles > one small product per frequency > inverse DFT > bias > Scan of (the same > gates) > cut

As in circulant.py, circulants are cut into L = b / t tiles of t x t, and a DFT over the tiles turns their product into
one product per frequency. Here the matrices of both DFTs are on the right, so each DFT is one large product for any
batch. For this, the tile index is the last axis from the first step to the last: (p, t, L) instead of (p, L, t). One
product of spectra computes all four gates. Units that pad the last block have the sign 0, so they contribute nothing.

Letters: S steps, B batch, n inputs, h units, b block, p x q blocks, t tile, L period, H = L // 2 + 1 frequencies.
"""

import math

import numpy as np
import onnx_ir as ir

from edgefc.attributes import FLAG, SEED, SIZE
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_lstm, unsigned
from edgefc.export.building.recurrent import LSTM_OUTPUTS, LSTM_STATES, gates_apart, recurrence
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import count, signs
from edgefc.export.building.tiles import dft, weights
from edgefc.export.operator import Operator


def write(
    op: Body,
    x: ir.Value,
    kernel: ir.Value,
    recurrent_kernel: ir.Value,
    bias: ir.Value,
    h0: ir.Value,
    c0: ir.Value,
) -> tuple[ir.Value, ...]:
    """x (S, B, n), kernel (4, p, q, b), recurrent_kernel (4, p, p, b), bias (4, h), h0 and c0 (B, h) or (1, h)
    -> (S, B, h), (B, h), (B, h)."""
    n, h = (op.shape(op.attribute(name)) for name in ("input_size", "hidden_size"))
    steps, batch, gates, one = op.Shape(x, end=1), op.Shape(x, start=1, end=2), op.const([4]), op.const([1])
    tiled = _Tiled(op, kernel)
    flips = op.CastLike(signs(op, op.attribute("sign_seed"), op.Squeeze(op.Add(n, h))), kernel)
    into, back = (op.Slice(flips, begin, end) for begin, end in ((op.const([0]), n), (n, op.Add(n, h))))
    back = tiled.tiles_last(op, back, h)

    rows = tiled.tiles_last(op, op.Mul(x, into), n, wide=True)
    z = _Product(op, tiled, kernel)(op, rows)  # (S B, 4, p b)
    z = op.Add(z, op.Reshape(tiled.tiles_last(op, gates_apart(op, bias), h), op.Concat(gates, tiled.units, axis=0)))
    z = op.Reshape(z, op.Concat(steps, batch, gates, tiled.units, axis=0), allowzero=1)

    def first_state(values: ir.Value) -> ir.Value:
        values = tiled.tiles_last(op, op.Expand(values, op.Concat(batch, h, axis=0)), h)
        return op.Reshape(values, op.Concat(batch, one, tiled.units, axis=0), allowzero=1)

    spectral = _Product(op, tiled, recurrent_kernel)
    y, h_n, c_n = recurrence(
        op, z, (first_state(h0), first_state(c0)), lambda inner, state: spectral(inner, inner.Mul(state, back)), None
    )
    return (
        tiled.tiles_first(op, y, h, steps, batch),
        tiled.tiles_first(op, h_n, h, batch),
        tiled.tiles_first(op, c_n, h, batch),
    )


class _Tiled:
    """Blocks of b values as L tiles of t: the layout of values, and products with circulants in this layout."""

    def __init__(self, op: Body, kernel: ir.Value) -> None:
        self._t, self._period = op.attribute("tile"), op.attribute("period")
        self._frequencies = op.Add(op.Div(self._period, op.const(2)), op.const(1))
        self._table = dft(op, self._period, self._frequencies)  # (2H, L)
        self.forward = op.CastLike(op.Transpose(self._table, perm=[1, 0]), kernel)  # (L, 2H)
        backward = op.Mul(self._table, weights(op, self._period, self._frequencies))
        self.backward = op.CastLike(backward, kernel)  # (2H, L)
        down, across, block = (op.Shape(kernel, start=axis, end=axis + 1) for axis in (1, 2, 3))
        self.units, self._taken = op.Mul(down, block), op.Mul(across, block)
        self._split, self._turned = op.shape(-1, self._period, self._t), op.shape(-1, self._t, self._period)

    def tiles_last(self, op: Body, values: ir.Value, size: ir.Value, *, wide: bool = False) -> ir.Value:
        """Pads (..., size) with zeros to whole blocks and arranges it as (. p t, L), tile index last, flattened.

        `wide` selects the number of blocks of the input instead of that of the units.
        """
        whole = self._taken if wide else self.units
        longer = op.Squeeze(op.Greater(whole, size))
        values = op.when(longer, lambda inner: inner.pad(values, inner.Sub(whole, size)), values)
        return op.Reshape(op.Transpose(op.Reshape(values, self._split), perm=[0, 2, 1]), op.const([-1]))

    def tiles_first(self, op: Body, values: ir.Value, size: ir.Value, *leading: ir.Value) -> ir.Value:
        """The inverse of that layout, without the padding: (*leading, size)."""
        values = op.Transpose(op.Reshape(values, self._turned), perm=[0, 2, 1])
        values = op.Reshape(values, op.Concat(*leading, self.units, axis=0), allowzero=1)
        return op.when(op.Squeeze(op.Greater(self.units, size)), lambda inner: inner.first(values, size), values)

    def spectra(self, op: Body, kernel: ir.Value) -> ir.Value:
        """Every circulant at every frequency, as real matrices between (re, im) pairs: (H, q t 2, 4 p t 2)."""
        block, t = op.Gather(op.Shape(kernel), op.const(3)), self._t
        reach = op.Sub(op.Mul(t, op.const(2)), op.const(1))
        offset = op.Sub(count(op, reach), op.Sub(t, op.const(1)))  # i - j, from -(t-1) to t-1
        starts = op.Unsqueeze(op.Mul(count(op, self._period), t), op.const([1]))
        at = op.Mod(op.Add(starts, op.Unsqueeze(offset, op.const([0]))), block)
        runs = op.Gather(op.Cast(gates_apart(op, kernel), to=ir.DataType.DOUBLE), at, axis=3)  # (4, p, q, L, 2t-1)
        spectrum = op.CastLike(op.MatMul(self._table, runs), kernel)  # (4, p, q, 2H, 2t-1)
        i = count(op, t)
        toeplitz = op.Sub(op.Unsqueeze(i, op.const([0])), op.Unsqueeze(i, op.const([1])))  # (j, i) -> i - j
        that = op.Gather(spectrum, op.Add(toeplitz, op.Sub(t, op.const(1))), axis=4)  # (4, p, q, 2H, t, t)
        across = op.Shape(kernel, start=2, end=3)
        that = op.Reshape(that, op.shape(-1, across, self._frequencies, 2, t, t))
        that = op.Gather(that, op.const([0, 1, 1, 0]), axis=3)  # re>re, re>im, im>re, im>im
        turn = op.const(np.array([1, 1, -1, 1]).reshape(1, 1, 1, 4, 1, 1), np.float32)
        that = op.Reshape(op.Mul(that, op.CastLike(turn, kernel)), op.shape(-1, across, self._frequencies, 2, 2, t, t))
        that = op.Transpose(that, perm=[2, 1, 5, 3, 0, 6, 4])  # (H, q, t, 2, 4 p, t, 2)
        return op.Reshape(that, op.shape(self._frequencies, op.Mul(across, op.Mul(t, op.const(2))), -1))

    def shapes(self, op: Body, kernel: ir.Value) -> dict[str, ir.Value]:
        """The shapes of the intermediate values of a product."""
        down, across = (op.Mul(op.Shape(kernel, start=axis, end=axis + 1), self._t) for axis in (1, 2))
        pairs = op.Mul(self._frequencies, op.const(2))
        return {
            "tiles": op.shape(-1, self._period),
            "pairs in": op.shape(-1, across, self._frequencies, 2),
            "rows in": op.shape(self._frequencies, -1, op.Mul(across, op.const([2]))),
            "pairs out": op.shape(self._frequencies, -1, op.Mul(down, op.const([4])), 2),
            "rows out": op.shape(-1, pairs),
            "gates": op.shape(-1, 4, self.units),
        }


class _Product:
    """The circulants of all gates times rows of q b values, with the tile index last: (., 4, p b)."""

    def __init__(self, op: Body, tiled: _Tiled, kernel: ir.Value) -> None:
        self._tiled, self._spectra, self._shapes = tiled, tiled.spectra(op, kernel), tiled.shapes(op, kernel)

    def __call__(self, op: Body, x: ir.Value) -> ir.Value:
        shapes = self._shapes
        u = op.MatMul(op.Reshape(x, shapes["tiles"]), self._tiled.forward)  # (B q t, 2H)
        u = op.Transpose(op.Reshape(u, shapes["pairs in"]), perm=[2, 0, 1, 3])
        u = op.MatMul(op.Reshape(u, shapes["rows in"]), self._spectra)  # (H, B, 4 p t 2)
        u = op.Transpose(op.Reshape(u, shapes["pairs out"]), perm=[1, 2, 0, 3])
        u = op.MatMul(op.Reshape(u, shapes["rows out"]), self._tiled.backward)  # (B 4 p t, L)
        return op.Reshape(u, shapes["gates"])


def prepare(attributes: Attributes) -> dict[str, int]:
    """The attributes that the exporter adds to a node: the tile and period of its circulants."""
    tile = choose_tile(*(attributes[name] for name in ("input_size", "hidden_size", "block")))
    return {"tile": tile, "period": attributes["block"] // tile}


def describe(attributes: Attributes) -> Described:
    seed = unsigned(attributes["sign_seed"])
    return describe_lstm(attributes, f"block {attributes['block']}, signs from seed {seed}")


def choose_tile(n: int, h: int, b: int) -> int:
    """The divisor of the block with the fewest multiply-adds per step. The size of the tables is nearly the same."""
    p, q = math.ceil(h / b), math.ceil(n / b)

    def cost(tile: int) -> int:
        frequencies = b // tile // 2 + 1
        return 2 * frequencies * b * (q + 9 * p) + frequencies * 16 * tile * tile * p * (p + q)

    return min((tile for tile in range(1, b + 1) if b % tile == 0), key=cost)


def compute(
    attributes: Attributes, x: Array, kernel: Array, recurrent_kernel: Array, bias: Array, h0: Array, c0: Array
) -> tuple[Array, ...]:
    n, h = attributes["input_size"], attributes["hidden_size"]
    flips = reference.signs(attributes["sign_seed"], n + h)
    w = reference.circulants(kernel, h, n) * flips[:n]
    r = reference.circulants(recurrent_kernel, h, h) * flips[n:]
    return reference.lstm(x, w, r, bias, h0, c0, hard=bool(attributes["hard_sigmoid"]))


OPERATOR = Operator(
    "CirculantLSTM",
    "one layer of an LSTM, gates i, f, g, o; outputs y, h_n, c_n",
    inputs={
        "x": ("S", "B", "input_size"),
        "kernel": ("4", "p", "q", "block"),
        "recurrent_kernel": ("4", "p", "p", "block"),
        **LSTM_STATES,
    },
    attributes={
        "input_size": SIZE,
        "hidden_size": SIZE,
        "block": SIZE,
        "sign_seed": SEED,
        "hard_sigmoid": FLAG,
        "tile": SIZE,
        "period": SIZE,
    },
    outputs=LSTM_OUTPUTS,
    bodies={"scan": write},
    prepare=prepare,
    describe=describe,
    reference=compute,
)
