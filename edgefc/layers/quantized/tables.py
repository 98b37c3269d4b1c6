"""The common part of embeddings whose table is stored in few bits."""

import operator
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common.onnx_node import Attribute, check_padding, check_replaced, check_tokens, is_size
from edgefc.layers.common.stored import StoredWeights

_ELEMENTS = {torch.float32: 1, torch.float16: 10, torch.float64: 11, torch.bfloat16: 16}
"""The number of a dtype in an ONNX file."""


class StoredTable(StoredWeights):
    """A table of V rows of D numbers, which is not trained. A class defines `_rows` and `_symbolic`."""

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None) -> None:
        super().__init__()
        if not (is_size(num_embeddings) and is_size(embedding_dim)):
            raise ShapeError(
                f"{type(self).__name__} does not support num_embeddings={num_embeddings!r}, "
                f"embedding_dim={embedding_dim!r}. Choose integers from 1 to 2**31 - 1."
            )
        self.num_embeddings, self.embedding_dim = operator.index(num_embeddings), operator.index(embedding_dim)
        self.padding_idx = check_padding(self, padding_idx, self.num_embeddings)

    def forward(self, x: Tensor) -> Tensor:
        check_tokens(self, x)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x, self._sizes(), (*x.shape, self.embedding_dim))
        return self._rows(x)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the whole table (V, D)."""
        return self._rows(torch.arange(self.num_embeddings, device=self.like.device))

    def multiply_adds(self) -> int:
        """Returns 0: a token needs no products."""
        return 0

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"num_embeddings={self.num_embeddings}, embedding_dim={self.embedding_dim}{padding}"

    def _rows(self, x: Tensor) -> Tensor:
        """Returns the rows of tokens x (...): (..., D)."""
        raise NotImplementedError  # nn.Module does not support abstract methods

    def _symbolic(self, x: Tensor, attributes: dict[str, Attribute], shape: tuple[int, ...]) -> Tensor:
        """Returns the output of the layer's ONNX node."""
        raise NotImplementedError  # defined by each layer

    def _sizes(self) -> dict[str, Attribute]:
        return {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "element_type": _ELEMENTS[self.like.dtype],
        }


def options(layer: type[nn.Module], embedding: nn.Module) -> dict[str, Any]:
    """Returns the padding_idx, device and dtype of a trained embedding.

    Raises:
        UsageError: another module, or an embedding with max_norm, which renormalises its rows.
    """
    check_replaced(layer, embedding, nn.Embedding)
    assert isinstance(embedding, nn.Embedding)
    if embedding.max_norm is not None:
        raise UsageError(
            f"{layer.__name__} cannot replace an Embedding with max_norm={embedding.max_norm}: its rows are not "
            "trained. Renormalise the rows, then set max_norm to None."
        )
    weight = embedding.weight
    return {"padding_idx": embedding.padding_idx, "device": weight.device, "dtype": weight.dtype}
