"""PRPConv2d in torch: against a convolution written out in numpy, gradients, the fit, and the ways to be wrong.

Its exported form is in test_bodies_prp_conv.py.
"""

import copy
import itertools
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc import PRPConv2d, generator
from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common.checkpoint import holds_weights
from edgefc.testing import assert_close

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch says it once of even kernels

DISTRIBUTIONS = sorted(generator.CODEBOOKS)


def make(*sizes: Any, dtype: Any = torch.float64, **options: Any) -> PRPConv2d:
    """A layer with scales far from one and a bias that is not zero; 3 to 5 channels, 3 x 3, unless said otherwise."""
    torch.manual_seed(0)
    layer = PRPConv2d(*(sizes or (3, 5, 3)), dtype=torch.float64, **options)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer.to(dtype)


def weight(layer: PRPConv2d) -> NDArray[np.float64]:
    """W[o, c, i, j] = out_scale[o] P[o, (c, i, j)] in_scale[c, i, j] / sqrt(n), (m, C, kh, kw), in float64 by numpy."""
    size = layer.in_scale.shape
    n = int(np.prod(size))
    p = generator.matrix(layer.seed, layer.out_channels, n, layer.distribution).astype(np.float64)
    w, alpha = (scale.detach().double().numpy() for scale in (layer.out_scale, layer.in_scale))
    return (np.diag(w) @ p @ np.diag(alpha.ravel()) / np.sqrt(n)).reshape(-1, *size)


def convolved(layer: PRPConv2d, x: NDArray[Any]) -> NDArray[np.float64]:
    """The layer on (B, C, h, w), patch by patch (im2col): what each output looks at, times the weight."""
    kernel, (stride, step), (dilation, spread) = layer.window.kernel_size, layer.window.stride, layer.window.dilation
    reach = [d * (k - 1) for k, d in zip(kernel, (dilation, spread), strict=True)]
    if layer.window.padding == "same":
        edges = [(r // 2, r - r // 2) for r in reach]
    elif layer.window.padding == "valid":
        edges = [(0, 0), (0, 0)]
    else:
        edges = [(p, p) for p in layer.window.padding]  # type: ignore[misc]
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *edges])
    tops = range(0, x.shape[2] - reach[0], stride)
    lefts = range(0, x.shape[3] - reach[1], step)
    y = np.empty((len(x), layer.out_channels, len(tops), len(lefts)))
    matrix = weight(layer).reshape(layer.out_channels, -1)
    for (i, top), (j, left) in itertools.product(enumerate(tops), enumerate(lefts)):
        patch = x[:, :, top : top + reach[0] + 1 : dilation, left : left + reach[1] + 1 : spread]
        y[:, :, i, j] = patch.reshape(len(x), -1) @ matrix.T
    return y if layer.bias is None else y + layer.bias.detach().double().numpy()[:, None, None]


def images(*shape: int, dtype: Any = np.float64) -> NDArray[Any]:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


WINDOWS = [
    pytest.param((3, 5, 3), {}, id="plain"),
    pytest.param((1, 1, 1), {}, id="one-number"),
    pytest.param((7, 1, 1), {}, id="one-output"),
    pytest.param((1, 13, (2, 3)), {}, id="one-input-rectangular"),
    pytest.param((3, 5, 3), {"padding": 1, "stride": 2}, id="strided"),
    pytest.param((3, 5, (3, 2)), {"padding": (2, 1), "stride": (1, 3), "dilation": (2, 1)}, id="all-pairs"),
    pytest.param((3, 5, 4), {"padding": "same"}, id="same-even"),
    pytest.param((3, 5, (2, 3)), {"padding": "same", "dilation": (3, 2)}, id="same-odd-edges"),
    pytest.param((3, 5, 2), {"padding": "valid", "bias": False}, id="valid-no-bias"),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("sizes", "options"), WINDOWS)
def test_forward_is_the_convolution_written_out(
    sizes: tuple[Any, ...], options: dict[str, Any], distribution: str
) -> None:
    layer, x = make(*sizes, distribution=distribution, seed=5, **options), images(2, sizes[0], 9, 8)
    y = convolved(layer, x)
    np.testing.assert_allclose(layer.dense().numpy(), weight(layer), rtol=1e-14)
    assert layer(torch.from_numpy(x)).shape == y.shape
    if y.any():  # the weight of one number may be zero, and without a bias so may others
        assert_close(layer(torch.from_numpy(x)), y, nmse=1e-26, what="forward")


@given(
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.one_of(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.just("same"), st.just("valid")),
    image=st.tuples(st.integers(7, 11), st.integers(7, 11)),
    seed=st.integers(0, 2**64 - 1),
)
@settings(max_examples=40, deadline=None)
def test_any_window(
    channels: tuple[int, int], kernel: Any, stride: Any, dilation: Any, padding: Any, image: Any, seed: int
) -> None:
    layer = make(*channels, kernel, 1 if padding == "same" else stride, padding, dilation, seed=seed)
    x = images(2, channels[0], *image)
    assert_close(layer(torch.from_numpy(x)), convolved(layer, x), nmse=1e-26, what="forward")


@pytest.mark.parametrize(("sizes", "image"), [((64, 384, 3), 5), ((768, 97, 1), 3), ((31, 33, 5), 6)])
def test_larger_layers(sizes: tuple[int, int, int], image: int) -> None:
    layer, x = make(*sizes), images(1, sizes[0], image, image)
    assert_close(layer(torch.from_numpy(x)), convolved(layer, x), nmse=1e-26, what="forward")


def test_images_without_a_batch_and_no_images() -> None:
    layer, x = make(), torch.from_numpy(images(3, 7, 6))
    assert torch.equal(layer(x), layer(x[None])[0])
    assert layer(x.expand(0, 3, 7, 6)).shape == (0, 5, 5, 4)


def test_the_matrix_is_that_of_a_prp_layer_on_patches() -> None:
    """Columns in the order channel, height, width: unfold() of torch gives them so."""
    layer, x = make(), torch.from_numpy(images(2, 3, 7, 6))
    assert layer.bias is not None
    patches = nn.functional.unfold(x, 3) * layer.in_scale.flatten()[:, None]  # (2, 27, 20)
    p = torch.from_numpy(generator.matrix(layer.seed, 5, 27, "gaussian")).double() / 27**0.5
    y = torch.einsum("mn,bnp->bmp", p, patches) * layer.out_scale[:, None] + layer.bias[:, None]
    assert_close(layer(x), y.view(2, 5, 5, 4), nmse=1e-26, what="patches")


# ---- gradients


@pytest.mark.parametrize("options", [{"padding": "same"}, {"padding": 1, "stride": 2}])
def test_gradients_by_finite_differences(options: dict[str, Any]) -> None:
    layer = make(2, 3, 2, seed=3, **options)
    x = torch.from_numpy(images(1, 2, 3, 2)).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]
    assert names == ["in_scale", "out_scale", "bias"]

    def forward(x: Tensor, *parameters: Tensor) -> Any:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), x)

    assert torch.autograd.gradcheck(forward, (x, *layer.parameters()))


# ---- the fit to a convolution


@pytest.mark.parametrize(
    ("options", "distribution"),
    [
        ({}, "rademacher"),
        ({"padding": "same", "dilation": 2}, "gaussian"),
        ({"padding": (1, 0), "stride": 2}, "ternary"),
    ],
)
def test_from_conv_recovers_another_prp_layer(options: dict[str, Any], distribution: str) -> None:
    """The answers too, so stride, padding and dilation come along."""
    torch.manual_seed(0)
    original = PRPConv2d(4, 9, (3, 2), distribution=distribution, seed=6, dtype=torch.float64, **options)
    conv = nn.Conv2d(4, 9, (3, 2), dtype=torch.float64, **options)
    conv.weight.data = original.dense()
    fitted = PRPConv2d.from_conv(conv, distribution=distribution, seed=6)
    assert_close(fitted.dense(), original.dense(), nmse=1e-18, what="weight")
    x = torch.from_numpy(images(2, 4, 8, 7))
    assert_close(fitted(x), conv(x), nmse=1e-18, what="answers")


def test_from_conv_is_nearer_than_plain_scales() -> None:
    conv = nn.Conv2d(4, 9, 3, dtype=torch.float64)
    p = generator.matrix(1, 9, 36, "gaussian")
    flat = conv.weight.detach().flatten(1).numpy()
    distance = np.linalg.norm(PRPConv2d.from_conv(conv, seed=1).dense().flatten(1).numpy() - flat)
    for axes in ((0, 1), 1, 0):
        best = p * (p * flat).sum(axis=axes, keepdims=True) / np.square(p).sum(axis=axes, keepdims=True)
        assert distance <= np.linalg.norm(best - flat)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_from_conv_keeps_dtype_and_the_lack_of_a_bias(dtype: torch.dtype) -> None:
    layer = PRPConv2d.from_conv(nn.Conv2d(4, 3, 2, bias=False, dtype=dtype))
    assert (layer.in_scale.dtype, layer.bias) == (dtype, None)
    assert torch.isfinite(layer.dense()).all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"groups": 2}, "groups=2, padding_mode='zeros'"),
        ({"padding_mode": "reflect", "padding": 1}, "groups=1, padding_mode='reflect'"),
    ],
)
def test_convolutions_of_another_kind_are_refused(options: dict[str, Any], told: str) -> None:
    said = f"PRPConv2d cannot replace a Conv2d with {told}. Use one with groups=1 and padding_mode='zeros'."
    with pytest.raises(UsageError, match=re.escape(said)):
        PRPConv2d.from_conv(nn.Conv2d(4, 4, 3, **options))


# ---- numbers stored, numbers drawn


@pytest.mark.parametrize(("sizes", "stored"), [((1, 1, 1), 3), ((256, 256, 3), 2816), ((3, 64, (7, 5)), 233)])
def test_it_stores_n_and_2_m_numbers(sizes: Any, stored: int) -> None:
    layer = PRPConv2d(*sizes)
    assert sum(p.numel() for p in layer.parameters()) == stored
    assert not [name for name, _ in layer.named_buffers() if holds_weights(name)]


def test_multiply_adds_are_the_dense_convolutions() -> None:
    assert PRPConv2d(4, 9, (3, 2), stride=2).multiply_adds() == 4 * 3 * 2 * 9


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_fresh_layers_nearly_keep_the_variance(distribution: str) -> None:
    """|row|^2 has mean (1 + 1/n)^2: within 2 % over 20 layers."""
    torch.manual_seed(0)
    rows = [PRPConv2d(16, 64, 3, distribution=distribution, seed=seed).dense().flatten(1) for seed in range(20)]
    power = float(torch.cat(rows).square().sum(1).mean())
    assert abs(power / (1 + 1 / 144) ** 2 - 1) < 0.02


# ---- what every layer keeps


@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 3e-6), (torch.bfloat16, 2e-4)])
def test_half_precision_stays_near(dtype: torch.dtype, nmse: float) -> None:
    layer, x = make(16, 9, 3, dtype=dtype), torch.from_numpy(images(2, 16, 6, 6)).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    assert_close(y, convolved(layer, x.double().numpy()), nmse=nmse, what=str(dtype))


def test_autocast() -> None:
    layer, x = make(16, 9, 3, dtype=torch.float32), torch.from_numpy(images(2, 16, 6, 6, dtype=np.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert_close(y, layer(x), nmse=1e-4, what="autocast")
    y.float().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())


def test_another_dtype_has_another_matrix() -> None:
    """What was made in float32 does not serve in float64."""
    layer, x = make(dtype=torch.float32), images(2, 3, 6, 6)
    layer(torch.from_numpy(x).float())
    double = copy.deepcopy(layer).double()
    assert_close(double(torch.from_numpy(x)), convolved(double, x), nmse=1e-26, what="to float64")
    layer.double()
    assert_close(layer(torch.from_numpy(x)), convolved(layer, x), nmse=1e-26, what="in place")


def test_copies_hold_the_scales_and_not_the_matrix() -> None:
    """P of 64 to 64 channels, 3 x 3, would be 147 KB; the scales are 2.8 KB."""
    layer, x = make(64, 64, 3, dtype=torch.float32, seed=2**64 - 1), torch.ones(1, 64, 4, 4)
    y = layer(x)
    fresh = PRPConv2d(64, 64, 3, seed=2**64 - 1)
    fresh(x)
    fresh.load_state_dict(layer.state_dict())
    pickled = pickle.dumps(layer)
    assert len(pickled) < 6000
    for other in (fresh, copy.deepcopy(layer), pickle.loads(pickled)):
        assert torch.equal(other(x), y)
        assert str(other) == str(layer)


def test_training_inference_and_training_again() -> None:
    """A matrix first made within inference_mode serves the backward pass after it."""
    layer = PRPConv2d(3, 5, 3)
    with torch.inference_mode():
        layer(torch.ones(2, 3, 4, 4))
    layer(torch.ones(2, 3, 4, 4)).sum().backward()
    assert layer.in_scale.grad is not None


@pytest.mark.slow
def test_compiles_whole() -> None:
    layer = make(padding="same")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for batch in (2, 5):
        x = torch.from_numpy(images(batch, 3, 6, 6))
        assert_close(compiled(x), layer(x), nmse=1e-26, what="compiled")


def test_repr_says_how_to_make_it() -> None:
    said = (
        "PRPConv2d(in_channels=3, out_channels=5, kernel_size=(3, 2), stride=(1, 1), padding='same', "
        "dilation=(1, 1), bias=False, distribution='ternary', seed=7)"
    )
    assert str(PRPConv2d(3, 5, (3, 2), padding="same", bias=False, distribution="ternary", seed=7)) == said
    assert str(eval(said)) == said


# ---- the ways to be wrong


def test_channels_below_one_are_named() -> None:
    with pytest.raises(
        ShapeError,
        match=r"PRPConv2d does not support in_channels=0, out_channels=5\. Choose int",
    ):
        PRPConv2d(0, 5, 3)


def test_windows_that_do_not_exist_are_named() -> None:
    with pytest.raises(ShapeError, match=re.escape("PRPConv2d does not support kernel_size=0.")):
        PRPConv2d(3, 5, 0)
    with pytest.raises(ShapeError, match=re.escape('PRPConv2d does not support padding="same" with')):
        PRPConv2d(3, 5, 3, 2, "same")


def test_distributions_that_are_no_codebook_are_named() -> None:
    with pytest.raises(UsageError, match=r"unknown distribution 'hadamard'\. Choose one of: rademacher, "):
        PRPConv2d(3, 5, 3, distribution="hadamard")


def test_images_that_do_not_fit_are_named() -> None:
    with pytest.raises(
        ShapeError,
        match=re.escape(
            "PRPConv2d expects images of shape (batch, 3, height, width) or (3, height, width), got (2, 4,"
        ),
    ):
        make()(torch.zeros(2, 4, 8, 8))
    with pytest.raises(ShapeError, match="PRPConv2d has a window of 3 x 3 pixels, got an image of 2 x 8"):
        make()(torch.zeros(2, 3, 2, 8))
    with pytest.raises(UsageError, match=r"PRPConv2d expects floating-point inputs, got torch.int64\."):
        make()(torch.zeros(2, 3, 8, 8, dtype=torch.long))


def test_seeds_that_are_not_of_64_bits_are_refused() -> None:
    with pytest.raises(UsageError, match=re.escape("seed must be an integer from 0 to 2**64 - 1, got -1")):
        PRPConv2d(3, 5, 3, seed=-1)


# ---- the comparisons can fail


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_neighbouring_seed_is_noticed(distribution: str) -> None:
    layer, other = (make(distribution=distribution, seed=seed) for seed in (0, 1))
    x = images(2, 3, 6, 6)
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(torch.from_numpy(x)), convolved(other, x), nmse=1e-20, what="seed")
