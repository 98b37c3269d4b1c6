"""Stored layers are trained through their codes, and store exactly what they computed last."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefc.layers.int3.linear import Int3Linear
from edgefc.layers.quantized.conv import QuantizedConv2d
from edgefc.layers.quantized.corrected import CorrectedLinear
from edgefc.layers.quantized.embedding import QuantizedEmbedding
from edgefc.layers.quantized.half import HalfLinear
from edgefc.layers.quantized.half_conv import HalfConv2d
from edgefc.layers.quantized.half_embedding import HalfEmbedding
from edgefc.layers.quantized.linear import QuantizedLinear
from edgefc.layers.quantized.lstm import QuantizedLSTM
from edgefc.training.latent import Codes, latents, stored_layers

ROWS, TOKENS, IMAGE = torch.Size([5, 40]), torch.arange(6), torch.Size([2, 4, 6, 6])
LAYERS: dict[str, tuple[Any, Any]] = {
    "int8": (lambda: QuantizedLinear(40, 7, bits=8, group=16), ROWS),
    "int4 rotated": (lambda: QuantizedLinear(40, 7, bits=4, group=16, seed=3), ROWS),
    "int2": (lambda: QuantizedLinear(40, 7, bits=2, group=32), ROWS),
    "int3": (lambda: Int3Linear(40, 7, group=32), ROWS),
    "int3 rotated": (lambda: Int3Linear(40, 7, group=32, seed=3), ROWS),
    "half": (lambda: HalfLinear(40, 7), ROWS),
    "corrected": (
        lambda: CorrectedLinear(
            QuantizedLinear(40, 7, bits=2, seed=1), HalfLinear(40, 3, False), HalfLinear(3, 7, False)
        ),
        ROWS,
    ),
    "table": (lambda: QuantizedEmbedding(9, 20, bits=2, group=16), TOKENS),
    "half table": (lambda: HalfEmbedding(9, 20), TOKENS),
    "convolution": (lambda: QuantizedConv2d(4, 6, 3, padding=1, groups=2, bits=4), IMAGE),
    "half convolution": (lambda: HalfConv2d(4, 6, 3), IMAGE),
    "lstm": (lambda: QuantizedLSTM(40, 6, 2, batch_first=True, bits=4), torch.Size([2, 3, 40])),
}


def run(layer: nn.Module, x: Tensor) -> Tensor:
    y = layer(x)
    return y[0] if isinstance(y, tuple) else y


def made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    make, inputs = LAYERS[name]
    return make(), torch.randn(inputs) if isinstance(inputs, torch.Size) else inputs


@pytest.mark.parametrize("name", LAYERS)
def test_what_was_computed_last_is_stored(name: str) -> None:
    layer, x = made(name)
    before, keys = run(layer, x).detach(), list(layer.state_dict())
    with latents(layer) as numbers:
        torch.testing.assert_close(run(layer, x), before, atol=1e-6, rtol=0)
        run(layer, x).square().sum().backward()
        for each in numbers:
            assert each.grad is not None
            with torch.no_grad():
                each += 0.3 * each.abs().mean() * torch.randn_like(each)
        last = run(layer, x).detach()
    assert not torch.allclose(last, before, atol=1e-3)
    torch.testing.assert_close(run(layer, x), last, atol=1e-6, rtol=0)
    assert list(layer.state_dict()) == keys
    other = made(name)[0]
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(run(other, x), last, atol=1e-6, rtol=0)


def test_the_nearest_codes_are_stored() -> None:
    """Against a search over all codes, in float64."""
    layer = QuantizedLinear(32, 5, bias=False, bits=2, group=16)
    with latents(layer) as (weight, scales), torch.no_grad():
        unit, spread = layer._latent.unit, layer._latent.spread
        weight.copy_(torch.randn_like(weight))
        scales.copy_(torch.rand_like(scales) - 0.5)  # fits have negative scales, too
    steps = weight.detach().double()[..., None] / unit
    nearest = (torch.arange(-2, 2).double() - steps).abs().argmin(-1) - 2
    expected = nearest * (scales.detach() / spread).half().double()[..., None]
    torch.testing.assert_close(layer.dense().double(), expected.reshape(5, 32))


def test_gradients() -> None:
    """Straight through within the range of the codes, and none outside. That of a scale is the sum over its codes."""
    latent = Codes(torch.ones(1, 1, 4), torch.full((1, 1), 0.5), 2)
    with torch.no_grad():
        latent.weight.copy_(torch.tensor([[[0.3, -0.6, 4.0, -9.0]]]))  # codes 1, -1, 1, -2
    torch.autograd.backward(latent.values(), torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert latent.weight.grad is not None
    assert latent.scales.grad is not None
    torch.testing.assert_close(latent.weight.grad.flatten(), torch.tensor([1.0, 2.0, 0.0, 0.0]))
    torch.testing.assert_close(latent.scales.grad.flatten(), torch.tensor([1.0 * 1 - 2 * 1 + 3 * 1 - 4 * 2]))


def test_a_scale_of_zero_stands_for_zeros() -> None:
    latent = Codes(torch.ones(1, 2, 4), torch.tensor([[0.0, 1.0]]), 4)
    torch.autograd.backward(latent.values().sum())
    assert latent.values().tolist() == [[0.0] * 4 + [1.0] * 4]
    assert latent.weight.grad is not None
    assert bool(latent.weight.grad.isfinite().all())


def test_an_exception_leaves_stored_layers() -> None:
    model = nn.Sequential(QuantizedLinear(32, 32), nn.GELU(), HalfLinear(32, 8))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="stop"), latents(model):
        raise RuntimeError("stop")
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert not list(model[0].children()) and len(stored_layers(model)) == 2
