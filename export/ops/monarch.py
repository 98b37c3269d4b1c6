"""edgefc::MonarchLinear in standard operators: two batched matrix products, one matrix of the batch per block.

    pad > (B, b, p) > (b, B, p) > product > (b, B, w) > (B, w, b) > (B, b, w) > (b, B, w) > product > (b, B, o)
    > (B, b o) > cut > bias

A Reshape that keeps the shape stands between each transposition and its product. Without it, onnxruntime 1.31.1 fuses
the two into a FusedMatMul with transBatchA, which is up to a fifteenth faster, but ends the process on an empty batch.

Other orders were measured in onnxruntime 1.31.1, one thread, 384 to 3,072 inputs, 4 to 32 blocks. Weights as the left
operands, (b, w, p) (b, p, B), take a tenth to a third less time at batch 16 and 64, and 1.4 to 5 times as much at batch
1. One product per row and block, (B, b, 1, p) (b, p, w), saves a tenth at batch 1, takes two to six times as long at
batch 64, and fails on an empty batch. If b divides w, one transposition between the products is enough, but it is not
faster.

Symbols: n inputs, m outputs, b blocks, p = ceil(n / b), o = ceil(m / b), w inner values per block, B rows of inputs.
"""

import numpy as np
import onnx_ir as ir

from edgefc.attributes import SIZE
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_linear
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, first: ir.Value, second: ir.Value, bias: ir.Value) -> ir.Value:
    """x (..., n), first (b, w, p), second (b, o, w), bias (m,) -> (..., m)."""
    n, m, b, w = (op.attribute(name) for name in ("in_features", "out_features", "blocks", "width"))
    p, o = op.Squeeze(op.Shape(first, start=2)), op.Squeeze(op.Shape(second, start=1, end=2))
    taken, made = op.Mul(b, p), op.Mul(b, o)
    padded = op.when(op.Greater(taken, n), lambda inner: inner.pad(x, inner.Sub(taken, n)), x)
    inner = _product(op, op.Reshape(padded, op.shape(-1, b, p)), first)  # (b, B, w)
    y = _product(op, op.Reshape(op.Transpose(inner, perm=[1, 2, 0]), op.shape(-1, b, w)), second)  # (b, B, o)
    y = op.Reshape(op.Transpose(y, perm=[1, 0, 2]), op.Concat(op.Shape(x, end=-1), op.shape(made), axis=0))
    y = op.when(op.Greater(made, m), lambda inner: inner.first(y, m), y)
    return op.Add(y, bias)


def _product(op: Body, x: ir.Value, matrices: ir.Value) -> ir.Value:
    """Each block of x (B, b, k) times its matrix, matrices (b, l, k) -> (b, B, l)."""
    b, k = op.Shape(matrices, end=1), op.Shape(matrices, start=2)
    rows = op.Reshape(op.Transpose(x, perm=[1, 0, 2]), op.Concat(b, op.const([-1]), k, axis=0))
    return op.MatMul(rows, op.Transpose(matrices, perm=[0, 2, 1]))


def describe(attributes: Attributes) -> Described:
    return describe_linear(attributes, f"{attributes['blocks']} blocks, width {attributes['width']}")


def compute(attributes: Attributes, x: Array, first: Array, second: Array, bias: Array) -> Array:
    """By the dense matrix: each inner value adds the product of a column of `second` and a row of `first`."""
    n, m, b, w = (attributes[name] for name in ("in_features", "out_features", "blocks", "width"))
    p, o = first.shape[2], second.shape[1]
    matrix = np.zeros((b * o, b * p))
    for j in range(b):
        for t in range(w):
            i, place = divmod(t * b + j, w)
            matrix[i * o : (i + 1) * o, j * p : (j + 1) * p] += np.outer(second[i, :, place], first[j, t])
    result: Array = x @ matrix[:m, :n].T + bias
    return result


OPERATOR = Operator(
    "MonarchLinear",
    "`L P R x + bias`, L and R block-diagonal, P reads the inner values (blocks, width) by columns",
    inputs={
        "x": (..., "in_features"),
        "first": ("blocks", "width", "p"),
        "second": ("blocks", "o", "width"),
        "bias": ("out_features",),
    },
    attributes={"in_features": SIZE, "out_features": SIZE, "blocks": SIZE, "width": SIZE},
    bodies={"batched": write},
    describe=describe,
    reference=compute,
)
