"""edgefc::HalfEmbedding in standard operators: Gather, then Cast of the requested rows."""

from typing import Any

import onnx_ir as ir

from edgefc.attributes import ELEMENT, SIZE
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_embedding, describe_storage
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(op: Body, x: ir.Value, table: ir.Value) -> ir.Value:
    """x (...) int32 or int64, table (V, D) float16 -> (..., D)."""
    return op.Cast(op.Gather(table, x), to=op.reference("element_type", name="to"))


def describe(attributes: Attributes) -> Described:
    return describe_storage(describe_embedding(attributes), attributes)


def compute(attributes: Attributes, x: Any, table: Array) -> Array:
    result: Array = table[x]
    return result


OPERATOR = Operator(
    "HalfEmbedding",
    "row v of a table in float16",
    inputs={"x": None, "table": ("num_embeddings", "embedding_dim")},
    attributes={"num_embeddings": SIZE, "embedding_dim": SIZE, "element_type": ELEMENT},
    bodies={"lookup": write},
    describe=describe,
    reference=compute,
)
