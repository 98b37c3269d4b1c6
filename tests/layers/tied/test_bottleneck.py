"""TiedBottleneck in torch: against the formula in numpy, against untied convolutions, one W for a stage, and errors.

Its exported form is in test_bodies_tied_bottleneck.py.
"""

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from edgefc import TiedBottleneck
from edgefc.errors import ShapeError, UsageError
from edgefc.testing import assert_close
from tests.support import layer_models as models

Array = NDArray[np.float64]


def expected(layer: TiedBottleneck, x: NDArray[Any]) -> Array:
    """W^T G(W x) + x block by block, in float64, G with the running statistics of its norms."""
    w = layer.weight.detach().double().numpy()[:, :, 0]
    y: Array = x.astype(np.float64)
    for block in layer.blocks:
        inner = _norm_relu(np.einsum("wc,nchv->nwhv", w, y), block.norm_in)
        inner = _norm_relu(_three_by_three(inner, block.conv.weight.detach().double().numpy()), block.norm_out)
        y = np.einsum("wc,nwhv->nchv", w, inner) + y
    return y


def _norm_relu(x: Array, norm: Any) -> Array:
    scale, shift, mean, variance = (
        t.detach().double().numpy()[:, None, None]
        for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    y: Array = np.maximum((x - mean) / np.sqrt(variance + norm.eps) * scale + shift, 0)
    return y


def _three_by_three(x: Array, kernel: Array) -> Array:
    """Cross-correlation with a border of zeros, one shift at a time."""
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return sum(  # type: ignore[no-any-return]
        np.einsum("oi,nihv->nohv", kernel[:, :, i, j], padded[:, :, i : i + height, j : j + width])
        for i in range(3)
        for j in range(3)
    )


def make(channels: int, width: int, blocks: int = 1, **options: Any) -> TiedBottleneck:
    """In eval mode, with norms that have seen something: no number is zero or one."""
    torch.manual_seed(3)
    layer = TiedBottleneck(channels, width, blocks, **options)
    for block in layer.blocks:
        block.norm_out.eps = 0.125  # type: ignore[union-attr, assignment]
    for name, tensor in layer.state_dict().items():
        if tensor.is_floating_point() and "norm" in name:
            tensor.uniform_(0.5, 1.5)
    return layer.eval()


@given(
    channels=st.integers(1, 20),
    width=st.integers(1, 20),
    blocks=st.integers(1, 3),
    height=st.integers(1, 6),
    across=st.integers(1, 6),
)
@settings(max_examples=25, deadline=None)
def test_forward_is_the_formula_of_the_paper(channels: int, width: int, blocks: int, height: int, across: int) -> None:
    layer = make(channels, width, blocks, dtype=torch.float64)
    x = models.inputs(2, channels, height, across, dtype=np.float64)
    assert_close(layer(torch.from_numpy(x)), expected(layer, x), nmse=1e-24, what="forward")


@pytest.mark.parametrize(("channels", "width"), [(61, 97), (384, 96), (768, 64)])
def test_larger_sizes(channels: int, width: int) -> None:
    layer, x = make(channels, width), models.inputs(2, channels, 5, 4)
    assert_close(layer(torch.from_numpy(x)), expected(layer, x), nmse=1e-12, what="forward")


@pytest.mark.parametrize("training", [True, False])
def test_it_is_untied_convolutions_with_the_transpose_as_second_kernel(training: bool) -> None:
    layer = make(12, 5, 2, dtype=torch.float64).train(training)
    untied = layer.dense()
    assert torch.equal(untied[0][-1].weight, untied[0][0].weight.transpose(0, 1))
    x = torch.randn(3, 12, 4, 6, dtype=torch.float64)
    assert_close(layer(x), untied(x), nmse=1e-26, what="untied")
    tied_norm: Any = layer.blocks[1].norm_out
    untied_norm: Any = untied[1][4]
    assert_close(tied_norm.running_mean, untied_norm.running_mean, nmse=1e-26, what="running mean")


def test_empty_batches_give_empty_answers() -> None:
    assert make(12, 5)(torch.zeros(0, 12, 4, 3)).shape == (0, 12, 4, 3)


def test_other_memory_formats_give_the_same_answers() -> None:
    layer, x = make(8, 4), torch.randn(2, 8, 5, 6)
    assert_close(layer(x.to(memory_format=torch.channels_last)), layer(x), nmse=1e-12, what="channels last")


# ---- one W


def test_a_stage_holds_one_weight() -> None:
    layer = TiedBottleneck(64, 16, 3)
    inner = 9 * 16**2 + 4 * 16
    assert sum(p.numel() for p in layer.parameters()) == 64 * 16 + 3 * inner
    shared = [name for name, value in layer.state_dict().items() if value.numel() == 64 * 16]
    assert shared == ["weight"]
    with torch.device("meta"):  # as its docstring says
        stage = TiedBottleneck(1024, 256, 6)
        assert sum(p.numel() for p in stage.parameters()) == 3_807_232
        assert sum(p.numel() for p in stage.dense().parameters()) == 6_690_816


def test_copies_hold_one_weight_too() -> None:
    """State dict, deep copy, pickle: the same answers, and a change of W reaches every block."""
    layer, x = make(64, 8, 3), torch.randn(2, 64, 3, 3)
    fresh, pickled = make(64, 8, 3), pickle.dumps(layer)
    for parameter in fresh.parameters():
        nn.init.zeros_(parameter)
    fresh.load_state_dict(layer.state_dict())
    for other in (fresh, pickle.loads(pickled), copy.deepcopy(layer)):
        assert torch.equal(other(x), layer(x))
        assert str(other) == str(layer)
        nn.init.zeros_(other.weight)
        assert torch.equal(other(x), x)


def test_multiply_adds_are_those_of_the_convolutions() -> None:
    layer = TiedBottleneck(12, 5, 2)
    kernels = [module.weight.numel() for module in layer.dense().modules() if isinstance(module, nn.Conv2d)]
    assert layer.multiply_adds() == sum(kernels)


# ---- gradients


def test_gradients_by_finite_differences() -> None:
    layer = make(2, 1, 2, dtype=torch.float64)
    x = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def forward(x: Any, *weights: Any) -> Any:
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), x)

    assert torch.autograd.gradcheck(forward, (x, *layer.parameters()))


def test_the_gradient_is_the_sum_of_all_uses() -> None:
    """Of two blocks: dL/dW over the reductions and, transposed, the expansions of the untied convolutions."""
    layer = make(7, 4, 2, dtype=torch.float64).train()
    untied = layer.dense()
    x = torch.randn(3, 7, 5, 4, dtype=torch.float64)
    for module in (layer, untied):
        module(x).square().sum().backward()
    uses = [block[0].weight.grad[..., 0] for block in untied]  # type: ignore[index]
    uses += [block[-1].weight.grad.transpose(0, 1)[..., 0] for block in untied]  # type: ignore[index]
    assert_close(layer.weight.grad, sum(uses), nmse=1e-24, what="dL/dW")  # type: ignore[arg-type]


# ---- the nearest layer


class Bottleneck(nn.Module):
    """As torchvision's, named as its parts are."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)


def test_from_bottlenecks_is_the_least_squares_fit() -> None:
    """W against lstsq over the 1x1 kernels of two blocks, the last norm's scale in them; G as it was."""
    torch.manual_seed(0)
    blocks = [Bottleneck(6, 4).double() for _ in range(2)]
    for block in blocks:
        for norm in (block.bn1, block.bn2, block.bn3):
            for tensor in (norm.weight.data, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 2.0)  # type: ignore[arg-type]
    layer = TiedBottleneck.from_bottlenecks(*blocks)
    targets = []
    for block in blocks:
        scale = block.bn3.weight / (block.bn3.running_var + block.bn3.eps).sqrt()  # type: ignore[operator]
        targets += [block.conv1.weight[:, :, 0, 0], (scale[:, None] * block.conv3.weight[:, :, 0, 0]).t()]
    target = np.concatenate([target.detach().numpy().ravel() for target in targets])
    fit = np.linalg.lstsq(np.concatenate([np.eye(24)] * 4), target, rcond=None)[0]
    assert_close(layer.weight.flatten(), fit, nmse=1e-26, what="W")
    for mine, theirs in zip(layer.blocks, blocks, strict=True):
        for name, other in {"norm_in": theirs.bn1, "conv": theirs.conv2, "norm_out": theirs.bn2}.items():
            for key, value in other.state_dict().items():
                assert torch.equal(mine.state_dict()[f"{name}.{key}"], value)


def test_from_bottlenecks_returns_tied_ones_as_they_were() -> None:
    layer, block = make(8, 3), Bottleneck(8, 3)
    del block.bn3
    with torch.no_grad():
        block.conv1.weight.copy_(layer.weight[..., None])
        block.conv3.weight.copy_(layer.weight[..., None].transpose(0, 1))
    untied: Any = layer.dense()[0]
    block.bn1, block.conv2, block.bn2 = untied[1], untied[3], untied[4]
    again = TiedBottleneck.from_bottlenecks(block.eval())
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(again(x), layer(x))
    assert not again.training


def test_blocks_that_cannot_share_are_refused() -> None:
    said = (
        "TiedBottleneck cannot share one matrix among convolutions of shapes "
        "[(4, 8, 1, 1), (4, 4, 3, 3), (8, 4, 1, 1)] with strides [(1, 1)]"
    )
    with pytest.raises(ShapeError, match=re.escape(said)):
        TiedBottleneck.from_bottlenecks(Bottleneck(6, 4), Bottleneck(8, 4))
    with pytest.raises(ShapeError, match=re.escape("with strides [(1, 1), (2, 2)]: the first block has 6 channels")):
        TiedBottleneck.from_bottlenecks(Bottleneck(6, 4, stride=2))
    said = (
        "TiedBottleneck expects blocks with conv1, bn1, conv2, bn2, conv3, in which convolutions have no bias and "
        "norms are nn.BatchNorm2d, got "
    )
    for blocks, told in (((nn.ReLU(),), "ReLU"), ((), "no blocks")):
        with pytest.raises(UsageError, match=re.escape(f"{said}{told}. Pass blocks of a ResNet.")):
            TiedBottleneck.from_bottlenecks(*blocks)


# ---- in the place of others


def test_in_a_small_resnet_it_trains() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), TiedBottleneck(16, 4, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x, target = torch.randn(32, 3, 8, 8), torch.randint(16, (32,))
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(x), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


# ---- what every layer keeps


@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 1e-5), (torch.bfloat16, 1e-3)])
def test_half_precision(dtype: torch.dtype, nmse: float) -> None:
    half = make(33, 17).to(dtype)
    x = torch.from_numpy(models.inputs(4, 33, 5, 5)).to(dtype)
    y = half(x)
    assert y.dtype == dtype
    assert_close(y, copy.deepcopy(half).float()(x.float()), nmse=nmse, what=str(dtype))


def test_autocast() -> None:
    layer, x = make(24, 10, 2).train(), torch.randn(9, 24, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert_close(y, layer(x), nmse=1e-3, what="autocast")
    y.float().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())


def test_it_compiles_whole() -> None:
    layer, x = make(8, 4, 2), torch.randn(3, 8, 4, 4)
    assert_close(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x), nmse=1e-12, what="compiled")


def test_fresh_weights_have_the_variance_of_fan_out() -> None:
    torch.manual_seed(0)
    layer = TiedBottleneck(400, 100)
    assert abs(float(layer.weight.detach().square().mean()) * 100 / 2 - 1) < 4 * (2 / layer.weight.numel()) ** 0.5


def test_repr_says_how_to_make_it() -> None:
    first = str(TiedBottleneck(6, 5, 2)).splitlines()[1].strip()
    assert first == "channels=6, width=5, blocks=2"


# ---- the ways to be wrong


@pytest.mark.parametrize(("channels", "width", "blocks"), [(0, 4, 1), (4, 0, 1), (4, 4, 0), (-1, 4, 1), (4, 2.0, 1)])
def test_sizes_below_one_are_named(channels: Any, width: Any, blocks: Any) -> None:
    said = (
        f"TiedBottleneck does not support channels={channels!r}, width={width!r}, blocks={blocks!r}. "
        "Choose integers from 1 to 2**31 - 1."
    )
    with pytest.raises(ShapeError, match=re.escape(said)):
        TiedBottleneck(channels, width, blocks)


@pytest.mark.parametrize("shape", [(2, 7, 4, 4), (8, 4, 4), (2, 8)])
def test_inputs_of_other_channels_are_named_with_both_sizes(shape: tuple[int, ...]) -> None:
    said = f"TiedBottleneck expects inputs of shape (N, 8, height, width), got {shape}."
    with pytest.raises(ShapeError, match=re.escape(said)):
        TiedBottleneck(8, 4)(torch.zeros(shape))


def test_whole_numbers_are_refused() -> None:
    said = "TiedBottleneck expects floating-point inputs, got torch.int64. Convert: x.float()."
    with pytest.raises(UsageError, match=re.escape(said)):
        TiedBottleneck(8, 4)(torch.zeros(2, 8, 4, 4, dtype=torch.int64))


def test_a_swapped_weight_is_noticed() -> None:
    """Meta-test: the oracle of one weight against the forward of another that has two rows swapped."""
    layer, x = make(16, 16, dtype=torch.float64), models.inputs(2, 16, 3, 3, dtype=np.float64)
    y = expected(layer, x)
    layer.weight.data[[3, 4]] = layer.weight.data[[4, 3]]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(torch.from_numpy(x)), y, nmse=1e-24, what="swapped")
