"""edgefc::QuantizedEmbedding in standard operators: Gather of codes and scales, then arithmetic on the requested rows.

The table stays packed in memory. onnxruntime's GatherBlockQuantized is not used: it has no uint8 codes in 1.22 and no 2
bits in 1.26, and 1.26 is slower than these operators. In 1.31.1 it is faster. Microseconds for rows of 384 numbers, 4
bits, groups of 32, 24 and 512 tokens, one thread, AVX-512:

    operators here, 1.22 to 1.31    GatherBlockQuantized, 1.26      1.31.1
        48     1000                     76     5900                 14     217

A row of MiniLM takes a few hundred times as long in its encoder.
"""

from typing import Any

import numpy as np
import onnx_ir as ir

from edgefc.attributes import BITS, ELEMENT, SIZE
from edgefc.export.building import packed
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_embedding, describe_storage
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, codes: ir.Value, scales: ir.Value) -> ir.Value:
    """x (...) int32 or int64, codes (V, G, c), scales (V, G) -> (..., D)."""
    rows = packed.values(op, op.Gather(codes, x), op.Gather(scales, x))
    width, stored = (
        op.attribute("embedding_dim"),
        op.Mul(op.Size(op.Gather(scales, op.const(0))), op.attribute("group")),
    )
    rows = op.when(op.Greater(stored, width), lambda inner: inner.first(rows, width), rows)
    return op.Cast(rows, to=op.reference("element_type", name="to"))


def describe(attributes: Attributes) -> Described:
    return describe_storage(describe_embedding(attributes), attributes)


def compute(attributes: Attributes, x: Any, codes: Array, scales: Array) -> Array:
    flat = np.ravel(x)
    rows = packed.reference(attributes, codes[flat], scales[flat])[:, : attributes["embedding_dim"]]
    result: Array = rows.reshape(*np.shape(x), -1)
    return result


OPERATOR = Operator(
    "QuantizedEmbedding",
    "row v of a table in 2, 4 or 8 bits, with a scale for each group of numbers",
    inputs={"x": None, "codes": ("num_embeddings", "G", "c"), "scales": ("num_embeddings", "G")},
    attributes={
        "num_embeddings": SIZE,
        "embedding_dim": SIZE,
        "bits": BITS,
        "group": SIZE,
        "element_type": ELEMENT,
    },
    bodies={"lookup": write},
    describe=describe,
    reference=compute,
)
