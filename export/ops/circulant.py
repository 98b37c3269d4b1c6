"""edgefc::CirculantLinear in standard operators: a real FFT made of small matrix products.

    signs > tiles > DFT over tiles > one small product per frequency > inverse DFT over tiles > bias

A circulant C[i, j] = r[(i - j) mod b], cut into t x t tiles, is a block-circulant matrix with Toeplitz blocks. The tile
in tile row I and tile column J is T[d] with d = I - J and T[d][i, j] = r[(d t + i - j) mod b]. A DFT over the tile
index turns the product of tiles into one t x t complex product per frequency. Because all values are real, only the
frequencies 0 ... L/2 are needed:

    X[k] = sum_J exp(-2 pi i k J / L) x[J]        x[J] is the J-th run of t inputs
    Y[k] = That[k] X[k],   That[k] = sum_d exp(-2 pi i k d / L) T[d]
    y[I] = (1 / L) sum_k exp(+2 pi i k I / L) Y[k]

With t L = b, the product of tiles is cyclic. Otherwise L >= (input tiles) + (output tiles) - 1. Then the products do
not wrap around, and any length works, including primes. There are no separate twiddle factors: That includes them.

Cost per row of a square layer, in multiply-adds: 2 b (L + 2) for both transforms and 2 b t for the tiles, so the best t
is near sqrt(b). The tables have 2 b t values. The runtime computes them from the b values of the kernel when it loads
the file. Sources: FFTs as small matrix products, Dao et al., Monarch, https://arxiv.org/abs/2204.00595; blocks, CirCNN,
https://arxiv.org/abs/1708.08917; the layer, Cheng et al., https://arxiv.org/abs/1502.03436.

Letters: n inputs, m outputs, b block, p x q blocks, t tile, L period, H = L // 2 + 1 frequencies.
"""

import math

import numpy as np
import onnx_ir as ir

from edgefc.attributes import SEED, SIZE
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_linear, unsigned
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import ceil_div, count, signs
from edgefc.export.building.tiles import dft, weights
from edgefc.export.operator import Operator


def matmul(op: Body, x: ir.Value, kernel: ir.Value, bias: ir.Value) -> ir.Value:
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
    """(B q, 2H, t) -> (B, H, q 2t): one row per frequency with all blocks of the input."""
    twice = op.Mul(t, op.const(2))

    def several(inner: Body) -> ir.Value:
        blocks = inner.Reshape(u, inner.shape(-1, q, frequencies, twice))
        return inner.Transpose(blocks, perm=[0, 2, 1, 3])

    blocks = op.when(op.Greater(q, op.const(1)), several, u)
    return op.Reshape(blocks, op.shape(-1, frequencies, op.Mul(q, twice)))


def _scatter_blocks(op: Body, y: ir.Value, p: ir.Value, frequencies: ir.Value, t: ir.Value) -> ir.Value:
    """(B, H, p 2t) -> (B p, 2H, t): the inverse of _gather_blocks()."""

    def several(inner: Body) -> ir.Value:
        blocks = inner.Reshape(y, inner.shape(-1, frequencies, p, inner.Mul(t, inner.const(2))))
        return inner.Transpose(blocks, perm=[0, 2, 1, 3])

    blocks = op.when(op.Greater(p, op.const(1)), several, y)
    return op.Reshape(blocks, op.shape(-1, op.Mul(frequencies, op.const(2)), t))


def _columns(op: Body, table: ir.Value, stop: ir.Value, like: ir.Value | None) -> ir.Value:
    cut = op.Slice(table, op.const([0]), op.shape(stop), op.const([1]))
    return cut if like is None else op.CastLike(cut, like)


def dft_operator(op: Body, x: ir.Value, kernel: ir.Value, bias: ir.Value) -> ir.Value:
    """x (..., n), kernel (p, q, b), bias (m,) -> (..., m)."""
    n, m, b = (op.attribute(name) for name in ("in_features", "out_features", "block"))
    q, p = ceil_div(op, n, b), ceil_div(op, m, b)
    u = op.Mul(x, op.CastLike(signs(op, op.attribute("sign_seed"), n), kernel))
    u = op.Reshape(u, op.shape(-1, n))
    u = op.Reshape(op.pad(u, op.Sub(op.Mul(q, b), n)), op.shape(-1, q, b))  # (B, q, b)
    u_re, u_im = (op.Unsqueeze(part, op.const([1])) for part in _spectrum(op, u))  # (B, 1, q, f)
    k_re, k_im = _spectrum(op, kernel)  # (p, q, f)
    y_re = op.Sub(op.Mul(u_re, k_re), op.Mul(u_im, k_im))
    y_im = op.Add(op.Mul(u_re, k_im), op.Mul(u_im, k_re))
    y_re, y_im = (op.ReduceSum(part, op.const([2]), keepdims=0) for part in (y_re, y_im))  # (B, p, f)
    y = op.first(op.Reshape(_inverse(op, y_re, y_im, b), op.shape(-1, op.Mul(p, b))), m)
    y = op.Reshape(y, op.Concat(op.Shape(x, end=-1), op.shape(m), axis=0))
    return op.Add(y, bias)


def _spectrum(op: Body, values: ir.Value) -> tuple[ir.Value, ir.Value]:
    """One-sided DFT along the last of three axes, (., ., b) -> real and imaginary (., ., f)."""
    complex_values = op.dft(op.Unsqueeze(values, op.const([3])), onesided=1)
    return op.Gather(complex_values, op.const(0), axis=-1), op.Gather(complex_values, op.const(1), axis=-1)


def _inverse(op: Body, re: ir.Value, im: ir.Value, b: ir.Value) -> ir.Value:
    """The real signal of a one-sided spectrum, (B, p, f) -> (B, p, b)."""
    above = op.Div(op.Sub(b, op.const(1)), op.const(2))  # frequencies past b / 2 mirror those from 1 to here
    mirrored = op.Sub(above, count(op, above))  # above ... 1
    re = op.Concat(re, op.Gather(re, mirrored, axis=2), axis=2)
    im = op.Concat(im, op.Neg(op.Gather(im, mirrored, axis=2)), axis=2)
    whole = op.Concat(op.Unsqueeze(re, op.const([3])), op.Unsqueeze(im, op.const([3])), axis=3)
    return op.Gather(op.dft(whole, inverse=1), op.const(0), axis=-1)


_LONGEST_TILE = 256
_VECTOR = 32  # columns that onnxruntime's float32 matrix product computes at a time


def prepare(attributes: Attributes) -> dict[str, int]:
    """The attributes that the exporter adds to a node: the tile and period of the matmul body."""
    tile, period = split(*(attributes[name] for name in ("in_features", "out_features", "block")))
    return {"tile": tile, "period": period}


def describe(attributes: Attributes) -> Described:
    seed = unsigned(attributes["sign_seed"])
    return describe_linear(attributes, f"block {attributes['block']}, signs from seed {seed}")


def split(n: int, m: int, b: int) -> tuple[int, int]:
    """The tile and period of the matmul body with the lowest _cost().

    Several blocks need tile * period = b. A single block may also have a tile that does not divide it, with a period
    that is long enough to avoid wrap-around. Blocks of prime length need this.
    """
    several = n > b or m > b
    candidates = []
    for tile in range(1, min(b, _LONGEST_TILE) + 1):
        tiles_in, tiles_out = math.ceil(min(n, b) / tile), math.ceil(min(m, b) / tile)
        if b % tile == 0:
            candidates.append((tile, b // tile))
        elif not several:
            candidates.append((tile, tiles_in + tiles_out - 1))
    return min(candidates, key=lambda cut: _cost(n, m, b, *cut))


def _cost(n: int, m: int, b: int, tile: int, period: int) -> float:
    """Multiply-adds per row, with columns rounded up to a vector, plus twice the number of values in the tables.

    Multiply-adds dominate at large batches, tables at batch 1. The factor of two was chosen from measurements at
    n = 384 to 4096: tests/bench/circulant.py --tiles shows them.
    """
    p, q = math.ceil(m / b), math.ceil(n / b)
    tiles_in, tiles_out = math.ceil(min(n, b) / tile), math.ceil(min(m, b) / tile)
    rows = 2 * (period // 2 + 1)
    wide, product_wide = _up(tile), _up(2 * tile * p)
    products = rows * wide * (q * tiles_in + p * tiles_out) + rows // 2 * (2 * tile * q) * product_wide
    tables = rows * (tiles_in + tiles_out) + rows // 2 * (2 * tile * q) * (2 * tile * p)
    return products + 2 * tables


def _up(columns: int) -> int:
    return math.ceil(columns / _VECTOR) * _VECTOR


def compute(attributes: Attributes, x: Array, kernel: Array, bias: Array) -> Array:
    n, m = attributes["in_features"], attributes["out_features"]
    matrix = reference.circulants(kernel, m, n) * reference.signs(attributes["sign_seed"], n)
    result: Array = x @ matrix.T + bias
    return result


OPERATOR = Operator(
    "CirculantLinear",
    "the first m rows and n columns of p x q circulants of length b, after seeded signs",
    inputs={"x": (..., "in_features"), "kernel": ("p", "q", "block"), "bias": ("out_features",)},
    attributes={
        "in_features": SIZE,
        "out_features": SIZE,
        "block": SIZE,
        "sign_seed": SEED,
        "tile": SIZE,
        "period": SIZE,
    },
    bodies={"matmul": matmul, "dft": dft_operator},
    prepare=prepare,
    describe=describe,
    reference=compute,
)
