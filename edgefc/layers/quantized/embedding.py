"""Embedding with its table in codes of 2, 4 or 8 bits. Only the requested rows are converted."""

import torch
from torch import Tensor, nn

from edgefc.fitting.tables import QuantizedTableFit, fit_quantized_table
from edgefc.layers.common.entry import embedding
from edgefc.layers.common.onnx_node import Attribute, layer_node
from edgefc.layers.quantized import CLAIM, PAPER, packing
from edgefc.layers.quantized.tables import StoredTable, options


class QuantizedEmbedding(StoredTable):
    """torch.nn.Embedding with its table in `bits` bits, one float16 scale for each `group` numbers of a row.

    For V = 30,522, D = 384, 4 bits and groups of 32, the table takes 6,592,752 bytes, in a file and in memory; float32
    takes 46,881,792. The table is not trained. The exported node has standard operators and runs in every runtime; see
    edgefc/export/ops/quantized_embedding.py.

    Shapes:
        codes   (V, D / group, group * bits / 8) uint8, packed as in packing.py, D padded to a multiple of the group
        scales  (V, D / group) float16
        x (...) int32 or int64  ->  (..., D)

    padding_idx has no effect here: it is kept for code that reads it.

    Raises:
        ShapeError: a size below 1.
        UsageError: bits other than 2, 4 or 8, a group other than 16, 32, 64, 128 or 256, or a padding_idx out of range.
    """

    codes: Tensor
    scales: Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        bits: int = 4,
        group: int = 32,
        padding_idx: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx)
        self.bits, self.group = packing.check_storage(type(self).__name__, bits, group)
        shape = self.num_embeddings, -(-self.embedding_dim // self.group)
        self._store(device, dtype, **packing.buffers(shape, self.bits, self.group, device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws uniform codes with variance 1."""
        packing.draw(self.codes, self.scales, self.bits, 3**0.5)

    def stored_numbers(self) -> int:
        return packing.numbers(self.codes, self.scales, self.bits)

    @classmethod
    def from_fit(cls, fit: QuantizedTableFit, like: nn.Module) -> "QuantizedEmbedding":
        """Returns the layer of a fit. `like` is the torch.nn.Embedding that was fitted. Its dtype, device and mode are
        kept.

        Raises:
            UsageError: an embedding with max_norm.
        """
        layer = cls(len(fit.codes), fit.features, bits=fit.bits, group=fit.group, **options(cls, like))
        packing.load(layer.codes, layer.scales, fit.codes, fit.scales, layer.bits, layer.group)
        return layer.train(like.training)

    @classmethod
    def from_embedding(cls, embedding: nn.Embedding, *, bits: int = 8, group: int = 128) -> "QuantizedEmbedding":
        """Returns the layer with each number of the table rounded to the nearest code.

        The group is smaller if fewer numbers fill it.

        Raises:
            UsageError: an embedding with max_norm, or other bits or groups.
        """
        options(cls, embedding)
        bits, group = packing.check_storage(cls.__name__, bits, group)
        table = embedding.weight.detach().double().cpu().numpy()
        return cls.from_fit(fit_quantized_table(table, bits, packing.narrow(group, table.shape[1])), embedding)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bits={self.bits}, group={self.group}"

    def _rows(self, x: Tensor) -> Tensor:
        codes = nn.functional.embedding(x, self.codes.flatten(1)).reshape(*x.shape, *self.codes.shape[1:])
        scales = nn.functional.embedding(x, self.scales)
        return packing.values(codes, scales, self.bits, self.like.dtype)[..., : self.embedding_dim]

    def _symbolic(self, x: Tensor, attributes: dict[str, Attribute], shape: tuple[int, ...]) -> Tensor:
        attributes |= {"bits": self.bits, "group": self.group}
        weights = (self.codes, self.scales)
        return layer_node(self, x, weights, attributes, shape, op="QuantizedEmbedding", dtype=self.like.dtype)


ENTRIES = (
    embedding("QuantizedEmbedding, 8 bits", PAPER, CLAIM, lambda n: QuantizedEmbedding(16 * n, n, bits=8, group=128)),
    embedding("QuantizedEmbedding, 4 bits", PAPER, CLAIM, lambda n: QuantizedEmbedding(16 * n, n)),
)
