"""QuantizedLSTM: what torch.nn.LSTM gives with the matrices of dense()."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from edgefc import QuantizedLSTM
from edgefc.errors import UsageError
from edgefc.testing import assert_close, layer_model, run_onnxruntime


@pytest.mark.parametrize(("bits", "group"), [(8, 128), (4, 16), (2, 32)])
@pytest.mark.parametrize("bias", [True, False])
def test_is_torch_lstm_with_its_matrices(bits: int, group: int, bias: bool) -> None:
    lstm = nn.LSTM(7, 5, 2, bias=bias, dtype=torch.float64)
    layer = QuantizedLSTM.from_lstm(lstm, bits=bits, group=group)
    lstm.load_state_dict(layer.dense())
    x, state = torch.randn(4, 3, 7, dtype=torch.float64), (torch.randn(2, 3, 5, dtype=torch.float64),) * 2
    for found, expected in zip((layer(x, state)[0], *layer(x, state)[1]), (lstm(x, state)[0], *lstm(x, state)[1]),
                               strict=True):  # fmt: skip
        assert_close(found, expected, nmse=1e-24, what="forward")
    packed = pack_sequence([x[:4, 0], x[:2, 1]])
    assert_close(layer(packed)[0].data, lstm(packed)[0].data, nmse=1e-24, what="packed")


def test_from_lstm_is_near() -> None:
    lstm, x = nn.LSTM(64, 64), torch.randn(5, 2, 64)
    layer = QuantizedLSTM.from_lstm(lstm)
    assert_close(layer(x)[0], lstm(x)[0], nmse=1e-3, what="8 bits")
    expected = layer(x)[0].detach()
    one = layer.layers[0]
    file = layer_model(layer, x)
    y, h, c = run_onnxruntime(file, x.numpy())
    assert_close(y, expected, nmse=1e-11, what="onnxruntime")
    assert h.shape == c.shape == (2, 64)
    assert one.stored_numbers() == 2 * (256 * 64 + 256 * 2)


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="does not support bidirectional=True"):
        QuantizedLSTM.from_lstm(nn.LSTM(4, 4, bidirectional=True))
    with pytest.raises(UsageError, match="group=7"):
        QuantizedLSTM(4, 4, group=7)
