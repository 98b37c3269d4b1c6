"""The seeded matrix of the PRP layers in ONNX operators, computed a band of rows at a time.

Letters: n inputs, m outputs, w words per row.
"""

import numpy as np
import onnx_ir as ir

from edgefc.export.building.body import Body
from edgefc.export.building.seeded import ceil_div, count, cut, keys, words


class Source:
    """The seeded matrix, a band of rows at a time. Rows consist of whole words, so their width is n or slightly more.

    `width` is the name of the attribute with n. The weights have the type of in_scale.
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
        """The words of rows start ... start + rows - 1, cut into pieces: (rows, w, pieces) int32."""
        return self.pieces_of(op, count(op, op.Add(start, rows), start), lean=lean)

    def pieces_of(self, op: Body, rows: ir.Value, *, lean: bool = False) -> ir.Value:
        """The words of the given rows, (rows,) int64, cut into pieces: (rows, w, pieces) int32."""
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
        """x * in_scale / sqrt(n), followed by zeros if rows are wider than n: (B, width)."""
        n, width = self._n, self._width
        root = op.CastLike(op.Sqrt(op.Cast(n, to=ir.DataType.DOUBLE)), self._in_scale)
        u = op.Mul(op.Reshape(x, op.shape(-1, n)), op.Div(self._in_scale, root))
        return op.when(op.Greater(width, n), lambda inner: inner.pad(u, inner.Sub(width, n)), u)


def table(op: Body, piece: ir.Value, bits: ir.Value, levels: ir.Value) -> ir.Value:
    """Row v contains the levels of the codes in piece v, low bits first: (2**piece, piece / bits)."""
    rows = op.BitShift(op.const([1], np.uint32), op.Cast(piece, to=ir.DataType.UINT32), direction="LEFT")
    values = count(op, op.Reshape(op.Cast(rows, to=ir.DataType.INT64), op.const([], np.int64)))
    values = op.Cast(op.Unsqueeze(values, op.const([0])), to=ir.DataType.UINT32)  # (1, 2**piece)
    return op.Gather(levels, op.Squeeze(cut(op, values, bits, piece), op.const([0])))


def finish(op: Body, y: ir.Value, x: ir.Value, out_scale: ir.Value, bias: ir.Value) -> ir.Value:
    """y (B, m) scaled and shifted, in the shape of x: (..., m)."""
    y = op.Add(op.Mul(y, out_scale), bias)
    return op.Reshape(y, op.Concat(op.Shape(x, end=-1), op.shape(op.attribute("out_features")), axis=0))
