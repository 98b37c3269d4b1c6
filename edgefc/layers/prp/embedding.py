"""PRP embedding: regenerates the seeded rows of the tokens in each lookup, and scales them by trained vectors.

This is our reconstruction: the PRP paper (linear.py) has only fully connected layers. Here the layer of the paper is
applied to a one-hot vector: in_scale is the scale of the vocabulary entry, out_scale is that of the column, and there
is no bias. P has entries of variance 1, because torch.nn.Embedding is initialised from N(0, 1).

Symbols: V num_embeddings, D embedding_dim, P (V, D) with entries of variance 1, row = vocabulary entry.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgefc.errors import UsageError
from edgefc.generator import codebook
from edgefc.layers.common import seeded
from edgefc.layers.common.checkpoint import Seeded
from edgefc.layers.common.configuration import Configuration
from edgefc.layers.common.entry import OURS, embedding
from edgefc.layers.common.onnx_node import Attribute, check_padding, check_tokens, layer_node
from edgefc.layers.common.tables import check_table, table_repr, table_sizes
from edgefc.layers.prp import PAPER
from edgefc.layers.prp.scales import nearest_scales


class PRPEmbedding(Seeded):
    """Maps token v to row_scale[v] * (P[v] * column_scale).

    The layer stores V + D parameters and a seed: 50,512 for V = 50,000 and D = 512; torch.nn.Embedding stores
    25,600,000. The layer never builds the table: a forward regenerates only the rows of its tokens. The state dict
    stores the seed, and load_state_dict() restores it (common/checkpoint.py). seed=None draws a seed from torch's
    generator.

    padding_idx works as in torch.nn.Embedding: the scale of that row starts at zero and gets no gradient, so the row
    is zero. Tokens out of range raise an error on the CPU. An exported file does not detect all of them: onnxruntime
    raises an error for tokens from V up, but for negative tokens down to -V it returns rows that belong to no token.

    Shapes:
        row_scale   (V,)        column_scale   (D,)
        x           (...) int32 or int64                y   (..., D)

    Raises:
        ShapeError: a size below 1.
        UsageError: an unknown distribution (edgefc.generator.CODEBOOKS), a seed outside 0 to 2**64 - 1, or a
            padding_idx out of range; from load_state_dict(), a checkpoint with another configuration.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        distribution: str = "gaussian",
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = table_sizes("PRPEmbedding", num_embeddings, embedding_dim)
        self.padding_idx = check_padding(self, padding_idx, self.num_embeddings)
        self.codebook, self.distribution = codebook(distribution), distribution
        self._store_seed(seed, device)
        self.row_scale = nn.Parameter(torch.empty(self.num_embeddings, device=device, dtype=dtype))
        self.column_scale = nn.Parameter(torch.empty(self.embedding_dim, device=device, dtype=dtype))
        self.reset_parameters()

    def configuration(self) -> Configuration:
        return {
            "layer": "PRPEmbedding",
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "distribution": self.distribution,
        }

    def reset_parameters(self) -> None:
        """Draws the scales from N(1, 1/D), so that entries have nearly unit variance. The padding row is zero."""
        for scale in (self.row_scale, self.column_scale):
            nn.init.normal_(scale, mean=1.0, std=1 / math.sqrt(self.embedding_dim))
        if self.padding_idx is not None:
            with torch.no_grad():
                self.row_scale[self.padding_idx] = 0

    def forward(self, x: Tensor) -> Tensor:
        check_tokens(self, x)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        rows, seed = self._scales(x) * self.column_scale, self.traceable_seed  # (..., D)
        return rows * seeded.rows_of(seed, x, self.embedding_dim, self.distribution, dtype=rows.dtype)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the whole table (V, D): diag(row_scale) P diag(column_scale)."""
        size = (self.num_embeddings, self.embedding_dim)
        scale = self.row_scale
        matrix = seeded.matrix(self.seed, *size, self.distribution, dtype=scale.dtype, device=scale.device)
        return scale[:, None] * matrix * self.column_scale

    @classmethod
    @torch.no_grad()
    def from_embedding(
        cls, embedding: nn.Embedding, *, distribution: str = "gaussian", seed: int | None = None
    ) -> "PRPEmbedding":
        """Fits the scales to a trained table in the Frobenius norm, by the method of PRPLinear.from_linear.

        Needs several float64 copies of the table. The gradient options (sparse, scale_grad_by_freq) are not copied.

        Raises:
            UsageError: an embedding with max_norm, which renormalises its rows.
        """
        check_table(cls, embedding)
        weight = embedding.weight
        v, d = weight.shape
        layer = cls(
            v,
            d,
            padding_idx=embedding.padding_idx,
            distribution=distribution,
            seed=seed,
            device=weight.device,
            dtype=weight.dtype,
        )
        p = seeded.matrix(layer.seed, v, d, distribution, dtype=torch.float64, device=weight.device)
        row_scale, column_scale = nearest_scales(weight.double(), p)
        layer.row_scale.copy_(row_scale)
        layer.column_scale.copy_(column_scale)
        return layer

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per token: 2 D for both scales. Integer arithmetic for the words is not counted."""
        return 2 * self.embedding_dim

    def extra_repr(self) -> str:
        return f"{table_repr(self)}distribution={self.distribution!r}, seed={self.seed}"

    def _scales(self, x: Tensor) -> Tensor:
        """Returns the scale of each token's row, (..., 1). On the CPU, the lookup detects tokens out of range.

        Raises:
            UsageError: a token out of range.
        """
        try:
            return functional.embedding(x, self.row_scale[:, None], self.padding_idx)
        except IndexError:
            raise UsageError(
                f"PRPEmbedding expects tokens from 0 to {self.num_embeddings - 1}, got tokens from {int(x.min())} to "
                f"{int(x.max())}. Use tokens in this range, or increase num_embeddings."
            ) from None

    def _symbolic(self, x: Tensor) -> Tensor:
        attributes: dict[str, Attribute] = {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "seed": self.seed,
            "distribution": self.distribution,
            "bits": self.codebook.bits,
            "codebook": self.codebook.levels,
        }
        weights = (self.row_scale, self.column_scale)
        shape = (*x.shape, self.embedding_dim)
        return layer_node(self, x, weights, attributes, shape, op="PRPEmbedding", dtype=self.row_scale.dtype)


ENTRIES = (embedding("PRPEmbedding", PAPER, OURS, lambda n: PRPEmbedding(16 * n, n)),)
