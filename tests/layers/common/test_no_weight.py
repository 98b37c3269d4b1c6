"""Models that read the weight of a linear layer beside calling it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgefc import BilinearLinear, CirculantLinear, EUGenLinear, LowRankLinear, MonarchLinear, PRPLinear
from edgefc.errors import ExportError, UsageError
from edgefc.export import export

FAMILIES = (CirculantLinear, PRPLinear, EUGenLinear, BilinearLinear, MonarchLinear)


def encoder(family: Callable[..., nn.Module]) -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
    sizes = {"features": 16} if family is EUGenLinear else {}  # a weight that the fused kernel could take
    layer.linear1, layer.linear2 = family(16, 24, **sizes), family(24, 16, **sizes)
    return nn.TransformerEncoder(layer, 2).eval()


def by_hand(layer: nn.TransformerEncoderLayer, x: Tensor) -> Tensor:
    x = layer.norm1(x + layer.self_attn(x, x, x, need_weights=False)[0])
    y: Tensor = layer.norm2(x + layer.linear2(torch.relu(layer.linear1(x))))
    return y


@pytest.mark.parametrize("family", FAMILIES)
def test_torchs_encoder_runs_in_eval_mode(family: Callable[..., nn.Module]) -> None:
    """Its fused kernel, which reads linear1.weight, stays off: with gradients, without, and with a mask of padding."""
    model, x = encoder(family), torch.randn(2, 5, 16)
    model.use_nested_tensor = family is not EUGenLinear
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])

    with torch.no_grad():
        wanted = by_hand(model.layers[1], by_hand(model.layers[0], x))
        result = [model(x), model(x, src_key_padding_mask=padding)[:1]]

    torch.testing.assert_close(result[0], wanted)
    torch.testing.assert_close(result[1], wanted[:1])
    torch.testing.assert_close(model(x), wanted)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("family", [CirculantLinear, EUGenLinear])
def test_nested_tensors_are_refused(family: Callable[..., nn.Module]) -> None:
    """torch's encoder makes them where its first layer could be fused."""
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 24, batch_first=True), 2).eval()
    model.layers[1].linear1 = family(16, 24)
    x, padding = torch.randn(2, 5, 16), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])

    with torch.no_grad(), pytest.raises(UsageError, match=r"set encoder.use_nested_tensor = False"):
        model(x, src_key_padding_mask=padding)
    model.use_nested_tensor = False
    with torch.no_grad():
        result = model(x, src_key_padding_mask=padding)

    torch.testing.assert_close(result[:1], model(x[:1]))


@pytest.mark.slow
def test_torchs_encoder_exports(tmp_path: Path) -> None:
    model, path = encoder(CirculantLinear), tmp_path / "m.onnx"

    report = export(model, torch.randn(2, 5, 16), path)

    assert len(report.layers) == 4
    x = torch.randn(3, 5, 16)
    with torch.no_grad():
        wanted = by_hand(model.layers[1], by_hand(model.layers[0], x)).double().numpy()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    result = session.run(None, {"src": x.numpy()})[0]
    assert np.square(result - wanted).sum() < 1e-10 * np.square(wanted).sum()


@pytest.mark.parametrize(
    "family", [CirculantLinear, PRPLinear, BilinearLinear, MonarchLinear, partial(LowRankLinear, rank=2)]
)
def test_what_stands_for_the_weight(family: Callable[..., nn.Module]) -> None:
    layer = family(6, 4, dtype=torch.float64)
    weight = layer.weight

    assert (tuple(weight.shape), weight.dtype, weight.device) == ((4, 6), torch.float64, torch.device("cpu"))
    assert not isinstance(weight, Tensor) and "weight" not in layer.state_dict()
    with pytest.raises(UsageError, match=r"^linear cannot use the weight of a structured layer, which stores no dense"):
        nn.functional.linear(torch.randn(2, 6), weight)


@pytest.mark.parametrize("family", FAMILIES)
def test_export_refuses_an_output_projection_that_torch_does_not_call(
    tmp_path: Path, family: Callable[..., nn.Module]
) -> None:
    """EUGenLinear's weight may have the dense matrix's shape: torch would compute with it without a word."""
    model = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
    model.self_attn.out_proj = family(16, 16, **({"features": 16} if family is EUGenLinear else {}))

    with pytest.raises(ExportError, match=rf"^self_attn is a .* whose out_proj is a {family.__name__}\. torch reads"):
        export(model.eval(), torch.randn(2, 5, 16), tmp_path / "m.onnx")


def test_an_output_projection_of_torchs_attention_is_refused() -> None:
    attention = nn.MultiheadAttention(16, 4, batch_first=True)
    attention.out_proj = CirculantLinear(16, 16)
    x = torch.randn(2, 5, 16)

    with pytest.raises(UsageError, match=r"by StructuredAttention"):
        attention(x, x, x)
