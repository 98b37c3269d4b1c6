"""edgefc::CirculantLinear in standard operators: a real FFT made of small matrix products.

    signs > tiles > DFT over tiles > one small product per frequency > inverse DFT over tiles > bias

A circulant C[i, j] = r[(i - j) mod b] cut into t x t tiles has the tile T[d] at tile row I, tile column J,
d = I - J: a block-circulant matrix with Toeplitz blocks, T[d][i, j] = r[(d t + i - j) mod b]. A DFT over the
tile index turns the product of tiles into one t x t complex product per frequency, and the tile index needs
only the frequencies 0 ... L/2, since everything is real:

    X[k] = sum_J exp(-2 pi i k J / L) x[J]        x[J] is the J-th run of t inputs
    Y[k] = That[k] X[k],   That[k] = sum_d exp(-2 pi i k d / L) T[d]
    y[I] = (1 / L) sum_k exp(+2 pi i k I / L) Y[k]

With t L = b the tiles close into a circle. Otherwise L >= (input tiles) + (output tiles) - 1, the products do not
wrap, and any length works, primes too. Twiddle factors do not appear: they are inside That.

Cost per row of a square layer, in multiply-adds: 2 b (L + 2) for both transforms and 2 b t for the tiles, so t near
sqrt(b); tables: 2 b t numbers, folded from the b numbers of the kernel when the runtime loads the file.
FFTs as small matrix products: Dao et al., Monarch, https://arxiv.org/abs/2204.00595; the blocks: CirCNN,
https://arxiv.org/abs/1708.08917; the layer: Cheng et al., https://arxiv.org/abs/1502.03436.

Letters: n inputs, m outputs, b block, p x q blocks, t tile, L period, H = L // 2 + 1 frequencies.
"""

import math

import numpy as np
import onnx_ir as ir

from edgefc.export.build import Body
from edgefc.export.seeded import ceil_div, count, signs


def write(op: Body, x: ir.Value, kernel: ir.Value, bias: ir.Value) -> ir.Value:
    """x (..., n), kernel (p, q, b), bias (m,) -> (..., m)."""
    n, m, b = (op.attribute(name) for name in ("in_features", "out_features", "block"))
    t, period = op.attribute("tile"), op.attribute("period")
    q, p = ceil_div(op, n, b), ceil_div(op, m, b)
    tiles_in = ceil_div(op, op.Min(n, b), t)
    tiles_out = ceil_div(op, op.Min(m, b), t)
    frequencies = op.Add(op.Div(period, op.const(2)), op.const(1))
    forward = dft(op, period, frequencies)  # (2H, L)

    u = op.Mul(x, op.CastLike(signs(op, op.attribute("sign_seed"), n), kernel))  # (..., n)
    whole = op.Mul(op.Mul(q, tiles_in), t)
    u = op.when(op.Greater(whole, n), lambda inner: inner.pad(u, inner.Sub(whole, n)), u)  # (..., q tiles t)
    u = op.Reshape(u, op.shape(-1, tiles_in, t))  # (B q, tiles, t)
    u = op.MatMul(_columns(op, forward, tiles_in, kernel), u)  # (B q, 2H, t)
    u = _gather_blocks(op, u, q, frequencies, t)  # (B, H, q 2t)
    u = op.MatMul(op.Transpose(u, perm=[1, 0, 2]), _tiles(op, kernel, forward, tiles_out, t, period, frequencies))
    y = op.Transpose(u, perm=[1, 0, 2])  # (B, H, p 2t)
    y = _scatter_blocks(op, y, p, frequencies, t)  # (B p, 2H, t)
    backward = op.Mul(_columns(op, forward, tiles_out, None), weights(op, period, frequencies))
    backward = op.CastLike(op.Transpose(backward, perm=[1, 0]), kernel)  # (tiles, 2H)
    y = op.MatMul(backward, y)  # (B p, tiles, t)
    width = op.Mul(op.Mul(p, tiles_out), t)
    y = op.Reshape(y, op.Concat(op.Shape(x, end=-1), op.shape(width), axis=0))
    y = op.when(op.Greater(width, m), lambda inner: inner.first(y, m), y)  # (..., m)
    return op.Add(y, bias)


def dft(op: Body, period: ir.Value, frequencies: ir.Value) -> ir.Value:
    """Rows (cos, -sin) of each frequency, (2H, L) float64; angles reduced exactly, as whole numbers."""
    k = op.Unsqueeze(count(op, frequencies), op.const([1]))
    steps = op.Mod(op.Mul(k, op.Unsqueeze(count(op, period), op.const([0]))), period)  # (H, L)
    circle = op.Div(op.const(2 * math.pi, np.float64), op.Cast(period, to=ir.DataType.DOUBLE))
    angle = op.Mul(op.Cast(steps, to=ir.DataType.DOUBLE), circle)
    cos = op.Sin(op.Add(angle, op.const(math.pi / 2, np.float64)))  # onnxruntime 1.22 has no Cos of float64
    pair = op.Concat(op.Unsqueeze(cos, op.const([1])), op.Neg(op.Unsqueeze(op.Sin(angle), op.const([1]))), axis=1)
    return op.Reshape(pair, op.shape(-1, period))


def weights(op: Body, period: ir.Value, frequencies: ir.Value) -> ir.Value:
    """How often each frequency counts in the inverse, over L: 1 for 0 and L/2, 2 for the rest; (2H, 1) float64."""
    k = count(op, frequencies)
    alone = op.Or(op.Equal(k, op.const(0)), op.Equal(op.Mul(k, op.const(2)), period))
    times = op.Where(alone, op.const(1.0, np.float64), op.const(2.0, np.float64))
    share = op.Div(times, op.Cast(period, to=ir.DataType.DOUBLE))
    return op.Reshape(op.Expand(op.Unsqueeze(share, op.const([1])), op.const([1, 2])), op.const([-1, 1]))


def _tiles(
    op: Body,
    kernel: ir.Value,
    forward: ir.Value,
    tiles_out: ir.Value,
    t: ir.Value,
    period: ir.Value,
    frequencies: ir.Value,
) -> ir.Value:
    """That as real matrices that map (re, im) rows to (re, im) rows: (H, q 2t, p 2t)."""
    block = op.Gather(op.Shape(kernel), op.const(2))
    p, q = op.Gather(op.Shape(kernel), op.const(0)), op.Gather(op.Shape(kernel), op.const(1))
    d = count(op, period)
    d = op.Where(op.Less(d, tiles_out), d, op.Sub(d, period))  # tile offset I - J, negative ones at the end
    reach = op.Sub(op.Mul(t, op.const(2)), op.const(1))
    offset = op.Sub(count(op, reach), op.Sub(t, op.const(1)))  # i - j, from -(t-1) to t-1
    at = op.Add(op.Unsqueeze(op.Mul(d, t), op.const([1])), op.Unsqueeze(offset, op.const([0])))
    runs = op.Gather(op.Cast(kernel, to=ir.DataType.DOUBLE), op.Mod(at, block), axis=2)  # (p, q, L, 2t-1)
    spectrum = op.CastLike(op.MatMul(forward, runs), kernel)  # (p, q, 2H, 2t-1)
    i = count(op, t)
    toeplitz = op.Sub(op.Unsqueeze(i, op.const([0])), op.Unsqueeze(i, op.const([1])))  # (j, i) -> i - j
    that = op.Gather(spectrum, op.Add(toeplitz, op.Sub(t, op.const(1))), axis=3)  # (p, q, 2H, t, t)
    that = op.Reshape(that, op.shape(p, q, frequencies, 2, t, t))
    that = op.Gather(that, op.const([0, 1, 1, 0]), axis=3)  # re>re, re>im, im>re, im>im
    turn = op.const(np.array([1, 1, -1, 1]).reshape(1, 1, 1, 4, 1, 1), np.float32)
    that = op.Reshape(op.Mul(that, op.CastLike(turn, kernel)), op.shape(p, q, frequencies, 2, 2, t, t))
    that = op.Transpose(that, perm=[2, 1, 3, 5, 0, 4, 6])  # (H, q, 2, t, p, 2, t)
    twice = op.Mul(t, op.const(2))
    return op.Reshape(that, op.shape(frequencies, op.Mul(q, twice), op.Mul(p, twice)))


def _gather_blocks(op: Body, u: ir.Value, q: ir.Value, frequencies: ir.Value, t: ir.Value) -> ir.Value:
    """(B q, 2H, t) -> (B, H, q 2t): one row per frequency holds all blocks of the input."""
    twice = op.Mul(t, op.const(2))

    def several(inner: Body) -> ir.Value:
        blocks = inner.Reshape(u, inner.shape(-1, q, frequencies, twice))
        return inner.Transpose(blocks, perm=[0, 2, 1, 3])

    blocks = op.when(op.Greater(q, op.const(1)), several, u)
    return op.Reshape(blocks, op.shape(-1, frequencies, op.Mul(q, twice)))


def _scatter_blocks(op: Body, y: ir.Value, p: ir.Value, frequencies: ir.Value, t: ir.Value) -> ir.Value:
    """(B, H, p 2t) -> (B p, 2H, t): the way back."""

    def several(inner: Body) -> ir.Value:
        blocks = inner.Reshape(y, inner.shape(-1, frequencies, p, inner.Mul(t, inner.const(2))))
        return inner.Transpose(blocks, perm=[0, 2, 1, 3])

    blocks = op.when(op.Greater(p, op.const(1)), several, y)
    return op.Reshape(blocks, op.shape(-1, op.Mul(frequencies, op.const(2)), t))


def _columns(op: Body, table: ir.Value, stop: ir.Value, like: ir.Value | None) -> ir.Value:
    cut = op.Slice(table, op.const([0]), op.shape(stop), op.const([1]))
    return cut if like is None else op.CastLike(cut, like)
