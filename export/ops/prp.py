"""edgefc::PRPLinear in standard operators, with two bodies for the same matrix.

    resident    the runtime folds the whole matrix when it loads the file: speed and memory of a dense layer,
                a file of tens of kilobytes
    streaming   a Loop computes a band of rows, uses it and discards it: memory for one band, many times slower

Words are cut into pieces of 8 or 16 bits. One Gather from a table turns each piece into its 2 to 8 weights. The table
has 256 rows for codes of 1 and 2 bits and 65,536 rows for 4 and 8 bits, so it fits in a cache of the processor.

onnxruntime keeps everything that it folds, including scratch, in memory until a pass of its optimiser ends. It makes
two such passes. The resident body divides its work among both to lower the peak: EARLY of its BANDS bands of rows are
folded in the first pass. The others are inside an If, which the first pass inlines, so the second pass folds them.

Letters: n inputs, m outputs, w words per row.
"""

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from edgefc.attributes import (
    BITS,
    LEVELS,
    SEED,
    SIZE,
    TEXT,
)
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import (
    Described,
    describe_linear,
    unsigned,
)
from edgefc.export.building.projection import Source, finish
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import ceil_div
from edgefc.export.operator import Operator
from edgefc.generator import words_per_row

BANDS, EARLY = 8, 4
"""Bands of the resident body, with one product each. More bands would increase the latency of small layers."""

RESIDENT_LIMIT_BYTES = 64 << 20
"""The choice "auto" is the resident body if the total size of the seeded matrices in a file is at most this."""

BAND_WEIGHTS = 1 << 17
"""The number of weights that the streaming body computes at a time: half a megabyte of float32."""


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
    """The matrix is computed and discarded a band at a time. Shapes as in resident()."""
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


def describe(attributes: Attributes) -> Described:
    return describe_linear(attributes, f"{attributes['distribution']}, seed {unsigned(attributes['seed'])}")


def numbers_held(attributes: Attributes) -> int:
    """The number of values of the matrix that the resident body keeps: whole bands of rows, and rows of whole words."""
    m, n, bits = (int(attributes[name]) for name in ("out_features", "in_features", "bits"))
    return math.ceil(m / BANDS) * BANDS * words_per_row(n, bits) * 32 // bits


def choose(held: Mapping[str, int]) -> tuple[str, str]:
    """Resident if the total size of the matrices in memory, including those of convolutions, is within the limit."""
    size = held.get("PRPLinear", 0) + held.get("PRPConv2d", 0)
    matrices, limit = f"{size / 2**20:.1f} MiB of matrices", f"{RESIDENT_LIMIT_BYTES >> 20} MiB"
    if size <= RESIDENT_LIMIT_BYTES:
        return "resident", f"{matrices}, within {limit}: folded at load for speed"
    return "streaming", f"{matrices}, over {limit}: computed a band at a time to save memory"


def compute(attributes: Attributes, x: Array, in_scale: Array, out_scale: Array, bias: Array) -> Array:
    n, m = attributes["in_features"], attributes["out_features"]
    result: Array = (x * in_scale) @ (reference.seeded(attributes, m, n) / math.sqrt(n)).T * out_scale + bias
    return result


OPERATOR = Operator(
    "PRPLinear",
    "`((x * in_scale) P^T) * out_scale + bias`, P from the seed, entries of variance 1/n",
    inputs={
        "x": (..., "in_features"),
        "in_scale": ("in_features",),
        "out_scale": ("out_features",),
        "bias": ("out_features",),
    },
    attributes={
        "in_features": SIZE,
        "out_features": SIZE,
        "seed": SEED,
        "distribution": TEXT,
        "bits": BITS,
        "codebook": LEVELS,
    },
    bodies={"resident": resident, "streaming": streaming},
    choose=choose,
    describe=describe,
    held=numbers_held,
    reference=compute,
)
