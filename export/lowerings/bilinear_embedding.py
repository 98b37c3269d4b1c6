"""BilinearEmbedding -> edgefc::BilinearEmbedding."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import bilinear_embedding
from edgefc.export.build import function
from edgefc.export.described import Described
from edgefc.export.lowerings.bilinear import describe_factors
from edgefc.export.options import Options

NAME = "BilinearEmbedding"
INPUTS = ("x", "left", "right")
ATTRIBUTES = {
    **dict.fromkeys(("num_embeddings", "embedding_dim", "padding_idx", "terms"), ir.AttributeType.INT),
    **dict.fromkeys(("in_factors", "out_factors"), ir.AttributeType.INTS),
}


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, bilinear_embedding.write, opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Nothing to decide per node."""
    return {}


def describe(attributes: Mapping[str, Any]) -> Described:
    v, d = int(attributes["num_embeddings"]), int(attributes["embedding_dim"])
    return Described(f"{v} x {d}", v * d, describe_factors(attributes))
