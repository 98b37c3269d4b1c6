"""HalfEmbedding: the rounded table."""

import pytest
import torch
from torch import nn

from edgefc import HalfEmbedding
from edgefc.errors import UsageError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_from_embedding_rounds_to_float16(dtype: torch.dtype) -> None:
    embedding = nn.Embedding(7, 5, padding_idx=6, dtype=dtype).eval()
    layer, tokens = HalfEmbedding.from_embedding(embedding), torch.tensor([[0, 6], [3, 3]])
    assert (layer.padding_idx, layer.training) == (6, False)
    expected = embedding.weight.half().to(dtype)
    assert torch.equal(layer(tokens), expected[tokens])
    assert torch.equal(layer.dense(), expected)


def test_max_norm_is_refused() -> None:
    with pytest.raises(UsageError, match=r"max_norm=1\.0"):
        HalfEmbedding.from_embedding(nn.Embedding(4, 3, max_norm=1.0))
