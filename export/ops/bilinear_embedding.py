"""edgefc::BilinearEmbedding in standard operators: two lookups and an outer product. The table is never computed.

The sum over the terms is a matrix product for each token, (u1, T) times (T, u2). With one term it is the outer product.
In onnxruntime it is faster than Mul, which is slow if the inner axis is short.

Letters: V <= d1 d2 tokens, D <= u1 u2 values per row, T terms.
"""

from typing import Any

import onnx_ir as ir

from edgefc.attributes import PAIR, SIZE, TOKEN_OR_NONE
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_factors
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    """x (...) int32 or int64, left (T, d1, u1), right (T, d2, u2) -> (..., D)."""
    size, padding = op.attribute("embedding_dim"), op.attribute("padding_idx")
    d2 = op.CastLike(op.Gather(op.Shape(right), op.const(1)), x)
    high = op.Gather(op.Transpose(left, perm=[1, 2, 0]), op.Div(x, d2))  # (..., u1, T)
    low = op.Gather(op.Transpose(right, perm=[1, 0, 2]), op.Mod(x, d2))  # (..., T, u2)
    made = op.Mul(op.Shape(left, start=2), op.Shape(right, start=2))
    y = op.Reshape(op.MatMul(high, low), op.Concat(op.Shape(x), made, axis=0))
    y = op.when(op.Greater(op.Squeeze(made), size), lambda inner: inner.first(y, size), y)

    def masked(inner: Body) -> ir.Value:
        kept = inner.Not(inner.Equal(x, inner.CastLike(padding, x)))
        return inner.Mul(y, inner.CastLike(inner.Unsqueeze(kept, inner.const([-1])), y))

    return op.when(op.GreaterOrEqual(padding, op.const(0)), masked, y)


def describe(attributes: Attributes) -> Described:
    v, d = int(attributes["num_embeddings"]), int(attributes["embedding_dim"])
    return Described(f"{v} x {d}", v * d, describe_factors(attributes))


def compute(attributes: Attributes, x: Any, left: Array, right: Array) -> Array:
    table = reference.kronecker_sum(left, right, attributes["num_embeddings"], attributes["embedding_dim"]).T
    if attributes["padding_idx"] >= 0:
        table[attributes["padding_idx"]] = 0
    result: Array = table[x]
    return result


OPERATOR = Operator(
    "BilinearEmbedding",
    "row v of the sum of Kronecker products",
    inputs={"x": None, "left": ("terms", "d1", "u1"), "right": ("terms", "d2", "u2")},
    attributes={
        "num_embeddings": SIZE,
        "embedding_dim": SIZE,
        "padding_idx": TOKEN_OR_NONE,
        "terms": SIZE,
        "in_factors": PAIR,
        "out_factors": PAIR,
    },
    bodies={"lookups": write},
    describe=describe,
    reference=compute,
)
