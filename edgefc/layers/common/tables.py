"""Arguments of layers that replace torch.nn.Embedding."""

import operator
from typing import Any

from torch import nn

from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common.onnx_node import check_replaced, is_size


def table_sizes(name: str, num_embeddings: int, embedding_dim: int) -> tuple[int, int]:
    """Returns both sizes as ints. `name` is the layer in the error message.

    Raises:
        ShapeError: a size that is not an integer from 1 to 2**31 - 1.
    """
    if is_size(num_embeddings) and is_size(embedding_dim):
        return operator.index(num_embeddings), operator.index(embedding_dim)
    raise ShapeError(
        f"{name} does not support num_embeddings={num_embeddings!r}, embedding_dim={embedding_dim!r}. "
        "Choose integers from 1 to 2**31 - 1."
    )


def check_table(layer: type[nn.Module], embedding: nn.Embedding) -> None:
    """Checks that `embedding` is an Embedding that `layer` can be fitted to.

    Raises:
        UsageError: another module, or an embedding with max_norm, which renormalises its rows.
    """
    check_replaced(layer, embedding, nn.Embedding)
    if embedding.max_norm is not None:
        raise UsageError(
            f"{layer.__name__} cannot replace an Embedding with max_norm={embedding.max_norm}: it stores no rows to "
            "renormalise. Renormalise the rows, then set max_norm to None."
        )


def table_repr(layer: Any) -> str:
    """Returns the arguments that all these layers have, for extra_repr()."""
    padding = "" if layer.padding_idx is None else f"padding_idx={layer.padding_idx}, "
    return f"num_embeddings={layer.num_embeddings}, embedding_dim={layer.embedding_dim}, {padding}"
