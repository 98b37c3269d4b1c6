"""PRPEmbedding -> edgefc::PRPEmbedding."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import prp_embedding
from edgefc.export.build import function
from edgefc.export.described import Described, unsigned
from edgefc.export.options import Options

NAME = "PRPEmbedding"
INPUTS = ("x", "row_scale", "column_scale")
ATTRIBUTES = {
    "num_embeddings": ir.AttributeType.INT,
    "embedding_dim": ir.AttributeType.INT,
    "seed": ir.AttributeType.INT,
    "distribution": ir.AttributeType.STRING,
    "bits": ir.AttributeType.INT,
    "codebook": ir.AttributeType.FLOATS,
}


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, prp_embedding.write, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Nothing to decide per node."""
    return {}


def describe(attributes: Mapping[str, Any]) -> Described:
    v, d = int(attributes["num_embeddings"]), int(attributes["embedding_dim"])
    return Described(f"{v} x {d}", v * d, f"{attributes['distribution']}, seed {unsigned(attributes['seed'])}")
