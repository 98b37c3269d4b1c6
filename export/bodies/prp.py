"""edgefc::PRPLinear in standard operators, two bodies for the same numbers.

    resident    the runtime folds the whole matrix when it loads the file: speed and memory of a dense layer,
                a file of tens of kilobytes
    streaming   a Loop makes a band of rows, uses it and forgets it: the memory of a band, many times slower

Words are cut into pieces of 8 or 16 bits, and one Gather from a table turns each piece into its 2 to 8 weights: 256
rows for codes of 1 and 2 bits, 65,536 for 4 and 8, the sizes that stay in a processor's cache.

What the runtime folds, it keeps in memory until the pass of its optimiser is over, scratch and all, and onnxruntime
makes two such passes. The resident body spreads its work over both: EARLY of its BANDS bands of rows are folded in the
first pass, the others in the second, because they stand in an If that the first pass opens.

Letters: n inputs, m outputs, w words a row.
"""

from itertools import pairwise

import numpy as np
import onnx_ir as ir

from edgefc.export.build import Body
from edgefc.export.seeded import ceil_div, count, cut, keys, words

BANDS, EARLY = 8, 4
"""Bands of the resident body, each a product of its own. More would cost latency on small layers."""

BAND_WEIGHTS = 1 << 17
"""Weights that the streaming body makes at a time: half a megabyte of float32."""


def resident(op: Body, x: ir.Value, in_scale: ir.Value, out_scale: ir.Value, bias: ir.Value) -> ir.Value:
    """The matrix folded at load. x (..., n), in_scale (n,), out_scale (m,), bias (m,) -> (..., m)."""
    m = op.attribute("out_features")
    rows = ceil_div(op, m, op.const(BANDS))
    height = op.Mul(rows, op.const(BANDS))
    source = Source(op, in_scale)
    u = source.modulate(op, x)

    def products(inner: Body, first: int, last: int) -> list[ir.Value]:
        """Outputs of bands first ... last - 1, each (B, rows)."""
        begin, wide = inner.Mul(rows, inner.const(first)), inner.Mul(rows, inner.const(last - first))
        pieces = source.pieces(inner, begin, wide, lean=True)
        cuts = [inner.shape(inner.Mul(rows, inner.const(k))) for k in range(last - first + 1)]
        bands = [inner.Slice(pieces, start, stop, inner.const([0])) for start, stop in pairwise(cuts)]
        return [inner.Gemm(u, source.weights(inner, band), transB=1) for band in bands]

    late = op.when(op.const(True, np.bool_), lambda inner: inner.Concat(*products(inner, EARLY, BANDS), axis=1), u)
    y = op.Concat(*products(op, 0, EARLY), late, axis=1)  # (B, height)
    y = op.when(op.Greater(height, m), lambda inner: inner.first(y, m), y)
    return finish(op, y, x, out_scale, bias)


def streaming(op: Body, x: ir.Value, in_scale: ir.Value, out_scale: ir.Value, bias: ir.Value) -> ir.Value:
    """The matrix made and forgotten a band at a time. Shapes as in resident()."""
    n, m = op.attribute("in_features"), op.attribute("out_features")
    source = Source(op, in_scale)
    u = source.modulate(op, x)
    rows = op.Min(op.Max(op.Div(op.const(BAND_WEIGHTS), n), op.const(1)), m)
    trips = ceil_div(op, m, rows)

    def step(inner: Body, i: ir.Value) -> ir.Value:
        band = source.weights(inner, source.pieces(inner, inner.Mul(i, rows), rows))  # (rows, width)
        return inner.Gemm(u, band, transB=1)  # (B, rows)

    y = op.Transpose(op.loop(trips, step), perm=[1, 0, 2])  # (B, trips, rows)
    y = op.Reshape(y, op.shape(-1, op.Mul(trips, rows)))
    return finish(op, op.first(y, m), x, out_scale, bias)


class Source:
    """The seeded matrix, a band of rows at a time; rows are as wide as their words, n or a little more.

    `width` is the attribute that says n; what is made has the type of in_scale.
    """

    def __init__(self, op: Body, in_scale: ir.Value, width: str = "in_features") -> None:
        self._n, bits = op.attribute(width), op.attribute("bits")
        self._in_scale = in_scale
        self._keys = keys(op, op.attribute("seed"))
        self._columns = count(op, ceil_div(op, op.Mul(self._n, bits), op.const(32)))
        self._width = op.Mul(op.Size(self._columns), op.Div(op.const(32), bits))
        self._rows = op.shape(-1, self._width)
        self._piece = op.Where(op.Less(bits, op.const(4)), op.const(8), op.const(16))
        self.table = op.CastLike(table(op, self._piece, bits, op.attribute("codebook", list)), in_scale)

    def pieces(self, op: Body, start: ir.Value, rows: ir.Value, *, lean: bool = False) -> ir.Value:
        """The cut words of rows start ... start + rows - 1: (rows, w, pieces) int32."""
        return self.pieces_of(op, count(op, op.Add(start, rows), start), lean=lean)

    def pieces_of(self, op: Body, rows: ir.Value, *, lean: bool = False) -> ir.Value:
        """The cut words of any rows, (rows,) int64: (rows, w, pieces) int32."""
        grid = words(op, self._keys, rows, self._columns)
        return cut(op, grid, self._piece, op.const(32), lean=lean)

    def weights(self, op: Body, pieces: ir.Value) -> ir.Value:
        """(rows, w, pieces) -> (rows, width) weights of variance 1."""
        return op.Reshape(op.Gather(self.table, pieces), self._rows)

    def entries(self, op: Body, pieces: ir.Value) -> ir.Value:
        """(rows, w, pieces) -> (rows, n) weights of variance 1."""
        rows = self.weights(op, pieces)
        return op.when(op.Greater(self._width, self._n), lambda inner: inner.first(rows, self._n), rows)

    def modulate(self, op: Body, x: ir.Value) -> ir.Value:
        """x * in_scale / sqrt(n), zeros behind it where rows are wider than n: (B, width)."""
        n, width = self._n, self._width
        root = op.CastLike(op.Sqrt(op.Cast(n, to=ir.DataType.DOUBLE)), self._in_scale)
        u = op.Mul(op.Reshape(x, op.shape(-1, n)), op.Div(self._in_scale, root))
        return op.when(op.Greater(width, n), lambda inner: inner.pad(u, inner.Sub(width, n)), u)


def table(op: Body, piece: ir.Value, bits: ir.Value, levels: ir.Value) -> ir.Value:
    """Row v holds the levels of the codes in piece v, low bits first: (2**piece, piece / bits)."""
    rows = op.BitShift(op.const([1], np.uint32), op.Cast(piece, to=ir.DataType.UINT32), direction="LEFT")
    values = count(op, op.Reshape(op.Cast(rows, to=ir.DataType.INT64), op.const([], np.int64)))
    values = op.Cast(op.Unsqueeze(values, op.const([0])), to=ir.DataType.UINT32)  # (1, 2**piece)
    return op.Gather(levels, op.Squeeze(cut(op, values, bits, piece), op.const([0])))


def finish(op: Body, y: ir.Value, x: ir.Value, out_scale: ir.Value, bias: ir.Value) -> ir.Value:
    """y (B, m) scaled and shifted, in the shape of x: (..., m)."""
    y = op.Add(op.Mul(y, out_scale), bias)
    return op.Reshape(y, op.Concat(op.Shape(x, end=-1), op.shape(op.attribute("out_features")), axis=0))
