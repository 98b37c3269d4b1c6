"""Embedding with its table in float16. A file and a runtime hold the table in float16; the requested rows are
converted."""

import torch
from torch import Tensor, nn

from edgefc.fitting.half import HalfFit
from edgefc.layers.common.entry import embedding
from edgefc.layers.common.onnx_node import Attribute, layer_node
from edgefc.layers.quantized import CLAIM, PAPER, halves
from edgefc.layers.quantized.tables import StoredTable, options


class HalfEmbedding(StoredTable):
    """torch.nn.Embedding with its table in float16, in a file and in memory. The table is not trained.

    Shapes:
        half_weight     (V, D) float16
        x (...) int32 or int64  ->  (..., D)

    padding_idx has no effect here: it is kept for code that reads it.

    Raises:
        ShapeError: a size below 1.
        UsageError: a padding_idx out of range.
    """

    half_weight: Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx)
        table = halves.empty(self.num_embeddings, self.embedding_dim, device=device)
        self._store(device, dtype, half_weight=table)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the table from N(0, 1), as torch.nn.Embedding does."""
        nn.init.normal_(self.half_weight)

    @classmethod
    def from_fit(cls, fit: HalfFit, like: nn.Module) -> "HalfEmbedding":
        """Returns the layer of a fit. `like` is the torch.nn.Embedding that was fitted. Its dtype, device and mode are
        kept.

        Raises:
            UsageError: an embedding with max_norm.
        """
        layer = cls(*fit.weight.shape, **options(cls, like))
        halves.load(layer, fit)
        return layer.train(like.training)

    @classmethod
    def from_embedding(cls, embedding: nn.Embedding) -> "HalfEmbedding":
        """Returns the layer with the table of `embedding` rounded to float16.

        Raises:
            UsageError: a number is larger than 65504, or an embedding with max_norm.
        """
        options(cls, embedding)
        return cls.from_fit(halves.fit(embedding.weight, None), embedding)

    def _rows(self, x: Tensor) -> Tensor:
        return nn.functional.embedding(x, self.half_weight).to(self.like.dtype)

    def _symbolic(self, x: Tensor, attributes: dict[str, Attribute], shape: tuple[int, ...]) -> Tensor:
        return layer_node(self, x, (self.half_weight,), attributes, shape, op="HalfEmbedding",
                          dtype=self.like.dtype)  # fmt: skip


ENTRIES = (embedding("HalfEmbedding", PAPER, CLAIM, lambda n: HalfEmbedding(16 * n, n)),)
