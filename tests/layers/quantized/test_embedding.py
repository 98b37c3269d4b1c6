"""QuantizedEmbedding: the numbers of the fit, for every size."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgefc import QuantizedEmbedding
from edgefc.errors import UsageError
from edgefc.fitting.tables import fit_quantized_table
from edgefc.layers.quantized import packing
from edgefc.testing import assert_close, layer_model, run_onnxruntime

BITS = st.sampled_from([2, 4, 8])
GROUPS = st.sampled_from(packing.GROUPS)


@given(rows=st.integers(1, 20), width=st.one_of(st.integers(1, 70), st.just(384)), bits=BITS, group=GROUPS)
@settings(max_examples=25, deadline=None)
def test_gives_the_rows_of_the_fit(rows: int, width: int, bits: int, group: int) -> None:
    embedding = nn.Embedding(rows, width)
    fit = fit_quantized_table(embedding.weight.detach().numpy(), bits, group)
    layer, tokens = QuantizedEmbedding.from_fit(fit, embedding), torch.arange(2 * rows).reshape(2, -1) % rows
    expected = fit.dense()[tokens.numpy()]
    assert_close(layer(tokens), expected, nmse=1e-13, what="forward")
    assert_close(layer.dense(), fit.dense(), nmse=1e-13, what="dense")
    model = layer_model(layer, tokens)
    assert_close(run_onnxruntime(model, tokens.numpy()), expected, nmse=1e-13, what="onnxruntime")
    assert run_onnxruntime(model, tokens.numpy()[:0]).shape == (0, rows, width)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_takes_over_dtype_and_padding(dtype: torch.dtype) -> None:
    embedding = nn.Embedding(7, 40, padding_idx=-1, dtype=dtype).eval()
    layer = QuantizedEmbedding.from_embedding(embedding, bits=8)
    assert (layer.padding_idx, layer.training, layer.group) == (6, False, 64)
    y = layer(torch.tensor([1, 6]))
    assert y.dtype == dtype
    assert_close(y.float(), embedding.weight[[1, 6]].float(), nmse=1e-4, what="rows")
    assert not y[1].any()


def test_bytes_of_the_docstring() -> None:
    layer = QuantizedEmbedding(30522, 384, device="meta")
    assert sum(tensor.nbytes for tensor in layer.state_dict().values()) == 6_592_752
    assert layer.stored_numbers() == 30522 * (384 + 12)


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="bits=3"):
        QuantizedEmbedding(4, 3, bits=3)
    with pytest.raises(UsageError, match="expects int32 or int64 tokens"):
        QuantizedEmbedding(4, 3)(torch.zeros(2))


def test_from_fit_copies_codes_beyond_nothing() -> None:
    """The codes of the fit, packed, and nothing else."""
    fit = fit_quantized_table(np.random.default_rng(0).standard_normal((3, 20)), 4, 16)
    layer = QuantizedEmbedding.from_fit(fit, nn.Embedding(3, 20))
    assert np.array_equal(packing.unpack(layer.codes, 4).reshape(3, -1), fit.codes)
