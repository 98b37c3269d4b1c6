"""edgefc::PRPEmbedding in standard operators: it computes the rows of the given tokens, and never the whole table.

When the runtime loads the file, it folds only the table that turns pieces of words into weights. The table has 256 or
65,536 rows for any vocabulary. The words depend on the tokens, so they are computed in every run.

Letters: V num_embeddings, D embedding_dim, k tokens.
"""

from typing import Any

import onnx_ir as ir

from edgefc.attributes import BITS, LEVELS, SEED, SIZE, TEXT
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, unsigned
from edgefc.export.building.projection import Source
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, row_scale: ir.Value, column_scale: ir.Value) -> ir.Value:
    """x (...) int32 or int64, row_scale (V,), column_scale (D,) -> (..., D)."""
    tokens = op.Cast(op.Reshape(x, op.const([-1])), to=ir.DataType.INT64)  # (k,)
    source = Source(op, column_scale, "embedding_dim")
    rows = source.entries(op, source.pieces_of(op, tokens))  # (k, D)
    scales = op.Unsqueeze(op.Gather(row_scale, tokens), op.const([1]))  # (k, 1)
    y = op.Mul(op.Mul(rows, column_scale), scales)
    return op.Reshape(y, op.Concat(op.Shape(x), op.shape(op.attribute("embedding_dim")), axis=0))


def describe(attributes: Attributes) -> Described:
    v, d = int(attributes["num_embeddings"]), int(attributes["embedding_dim"])
    return Described(f"{v} x {d}", v * d, f"{attributes['distribution']}, seed {unsigned(attributes['seed'])}")


def compute(attributes: Attributes, x: Any, row_scale: Array, column_scale: Array) -> Array:
    table = reference.seeded(attributes, attributes["num_embeddings"], attributes["embedding_dim"])
    result: Array = (table * row_scale[:, None] * column_scale)[x]
    return result


OPERATOR = Operator(
    "PRPEmbedding",
    "row v of P (V, m), scaled on both sides; only the requested rows are computed",
    inputs={"x": None, "row_scale": ("num_embeddings",), "column_scale": ("embedding_dim",)},
    attributes={
        "num_embeddings": SIZE,
        "embedding_dim": SIZE,
        "seed": SEED,
        "distribution": TEXT,
        "bits": BITS,
        "codebook": LEVELS,
    },
    bodies={"lookup": write},
    describe=describe,
    reference=compute,
)
