"""BilinearConv2d in torch: against patches times the authors' matrix, the paddings, the fit, and the ways to be wrong.

Its exported forms are in test_bodies_bilinear_conv.py.
"""

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgefc import BilinearConv2d, BilinearLinear
from edgefc.errors import ShapeError, UsageError
from edgefc.testing import assert_close
from tests.support import bilinear_models as bilinear
from tests.support import layer_models as models

CHANNELS = st.one_of(st.integers(1, 9), st.sampled_from([13, 32]))


def make(*args: Any, **options: Any) -> Any:
    return models.randomise(BilinearConv2d(*args, **options))  # type: ignore[type-var]


@given(c=CHANNELS, m=CHANNELS, data=st.data(), bias=st.booleans(), terms=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_forward_is_patches_times_the_matrix(c: int, m: int, data: st.DataObject, bias: bool, terms: int) -> None:
    """For every kernel, stride and padding in pixels, images of any size that the kernel fits in."""
    kernel, stride = (data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(2))
    padding = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    size = [data.draw(st.integers(k, 7)) for k in kernel]
    layer = make(c, m, kernel, stride, padding, bias, terms=terms, dtype=torch.float64)
    x = models.inputs(2, c, *size, dtype=np.float64)
    expected = bilinear.expected_images(layer, x, kernel, stride, (*padding, *padding))
    y = layer(torch.from_numpy(x))
    if expected.any():
        assert_close(y, expected, nmse=1e-26, what="forward")
    else:  # steps over the image, from one edge to the other
        assert y.shape == expected.shape
        assert not y.any()


@given(kernel=st.integers(1, 4), stride=st.integers(1, 4), height=st.integers(1, 8), width=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_tensorflows_same(kernel: int, stride: int, height: int, width: int) -> None:
    """ceil(size / stride) outputs, the zeros that takes, the smaller half before; images may be below the kernel."""
    layer = make(3, 4, kernel, stride, "tf_same", dtype=torch.float64)
    x = models.inputs(2, 3, height, width, dtype=np.float64)
    expected = bilinear.expected_images(layer, x, (kernel, kernel), (stride, stride), None)
    assert expected.shape[2:] == (-(-height // stride), -(-width // stride))
    assert_close(layer(torch.from_numpy(x)), expected, nmse=1e-26, what="tf_same")


def test_tensorflows_same_is_not_torchs_padding_at_stride_2() -> None:
    """32 pixels, kernel 3, stride 2: one zero behind, none before; the first output is that of the plain image."""
    layer, x = make(3, 4, 3, 2, "tf_same"), torch.from_numpy(models.inputs(1, 3, 32, 32))
    around, behind = copy.deepcopy(layer), nn.functional.pad(x, (0, 1, 0, 1))
    around.window = BilinearConv2d(3, 4, 3, 2, 1).window
    plain = copy.deepcopy(layer)
    plain.window = BilinearConv2d(3, 4, 3, 2, 0).window
    assert layer(x).shape == around(x).shape == (1, 4, 16, 16)
    assert not torch.allclose(layer(x), around(x))
    assert torch.equal(layer(x), plain(behind))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("kernel", "size"), [(3, (7, 5)), ((2, 4), (6, 9)), (1, (4, 4))])
def test_same_without_stride_is_both_torchs_and_tensorflows(kernel: Any, size: tuple[int, int]) -> None:
    layer, x = make(3, 5, kernel, padding="same"), torch.from_numpy(models.inputs(2, 3, *size))
    other = BilinearConv2d(3, 5, kernel, padding="tf_same")
    other.load_state_dict(layer.state_dict())
    expected = nn.functional.conv2d(x, layer.dense(), layer.bias, padding="same")
    assert_close(layer(x), expected.detach(), nmse=1e-12, what="same")
    assert_close(other(x), expected.detach(), nmse=1e-12, what="tf_same")


@pytest.mark.parametrize("terms", bilinear.TERMS)
@pytest.mark.parametrize(("c", "m", "kernel"), [(1, 1, 1), (4, 6, 3), (5, 7, (2, 3)), (11, 13, 1)])
def test_dense_is_the_weight_of_a_convolution(c: int, m: int, kernel: Any, terms: int) -> None:
    """Entry by entry from the authors' order of patches, (kh, kw, C)."""
    layer = make(c, m, kernel, terms=terms, dtype=torch.float64)
    height, width = layer.window.kernel_size
    matrix = bilinear.kronecker(layer, height * width * c, m).reshape(height, width, c, m)
    assert_close(layer.dense(), matrix.transpose(3, 2, 0, 1), nmse=1e-28, what="dense")
    x = torch.from_numpy(models.inputs(2, c, 6, 5, dtype=np.float64))
    assert_close(layer(x), nn.functional.conv2d(x, layer.dense(), layer.bias).detach(), nmse=1e-26, what="conv2d")


def test_one_image_and_no_image() -> None:
    layer, x = make(3, 5, 3, padding=1), torch.from_numpy(models.inputs(2, 3, 6, 4))
    assert_close(layer(x[0]), layer(x)[0].detach(), nmse=1e-12, what="without a batch")
    assert layer(x[:0]).shape == (0, 5, 6, 4)


def test_the_authors_network_has_as_many_numbers_as_theirs() -> None:
    """BiSVGG at scale 1 and 2: nine convolutions, Dense 2048 to 1024 bilinear, the last Dense in full."""
    for scale, stored in ((1, 18_798), (2, 50_418), (3, 88_726)):
        filters = [32, 32, 32, 64, 64, 64, 128, 128, 128]
        channels = [3, *(f * scale**2 for f in filters)]
        total = (1024 * scale + 1) * 10
        for c, m, f in zip(channels, channels[1:], filters, strict=False):
            u = BilinearConv2d(1, f, 1).out_factors
            out = (u[0] * scale, u[1] * scale)
            total += sum(p.numel() for p in BilinearConv2d(c, m, 3, out_factors=out).parameters())
        total += sum(p.numel() for p in BilinearLinear(16 * channels[-1], 1024 * scale).parameters())
        assert total == stored, scale


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (2, 2, "tf_same"), ((2, 3), 1, 1)])
def test_gradients_by_finite_differences(kernel: Any, stride: int, padding: Any) -> None:
    layer = BilinearConv2d(2, 3, kernel, stride, padding, terms=2, dtype=torch.float64)
    x = torch.from_numpy(models.inputs(2, 2, 3, 3, dtype=np.float64)).requires_grad_()

    def forward(x: Any, left: Any, right: Any, bias: Any) -> Any:
        return torch.func.functional_call(layer, {"left": left, "right": right, "bias": bias}, x)

    assert torch.autograd.gradcheck(forward, (x, layer.left, layer.right, layer.bias))


# ---- the nearest


@pytest.mark.parametrize("padding", [0, (1, 0), "same", "valid"])
@pytest.mark.parametrize("terms", bilinear.TERMS)
def test_from_conv_finds_what_a_layer_was_made_of(padding: Any, terms: int) -> None:
    original = make(4, 6, 3, padding=padding, terms=terms)
    conv = nn.Conv2d(4, 6, 3, padding=padding)
    conv.load_state_dict({"weight": original.dense(), "bias": original.bias.detach()})
    fitted, x = BilinearConv2d.from_conv(conv, terms=terms), torch.from_numpy(models.inputs(2, 4, 7, 5))
    assert_close(fitted.dense(), conv.weight, nmse=1e-12, what="weight")
    assert_close(fitted(x), conv(x).detach(), nmse=1e-10, what="forward")


def test_from_conv_takes_stride_dtype_and_the_lack_of_a_bias() -> None:
    layer = BilinearConv2d.from_conv(nn.Conv2d(5, 7, (3, 2), (2, 1), bias=False, dtype=torch.float64))
    assert (layer.window.kernel_size, layer.window.stride, layer.bias) == ((3, 2), (2, 1), None)
    assert layer.left.dtype == torch.float64


@pytest.mark.parametrize("options", [{"groups": 2}, {"dilation": 2}, {"padding_mode": "reflect", "padding": 1}])
def test_convolutions_of_another_kind_are_refused(options: Any) -> None:
    conv = nn.Conv2d(4, 4, 3, **options)
    said = (
        f"BilinearConv2d cannot replace a convolution with groups={conv.groups}, dilation={conv.dilation}, "
        f"padding_mode={conv.padding_mode!r}. Use one with groups=1, dilation=1 and padding_mode='zeros'."
    )
    with pytest.raises(UsageError, match=re.escape(said)):
        BilinearConv2d.from_conv(conv)


# ---- what every layer keeps


def test_it_stores_and_takes_what_its_docstring_says() -> None:
    layer = BilinearConv2d(256, 256, 3, bias=False)
    assert (sum(p.numel() for p in layer.parameters()), layer.multiply_adds()) == (1536, 49_152)


@pytest.mark.parametrize("terms", [1, 4])
def test_fresh_layers_keep_glorots_variance(terms: int) -> None:
    """Each factor 2 / (d + u), so their product 4 / ((d1 + u1) (d2 + u2)), whatever the number of terms."""
    torch.manual_seed(0)
    variances = [BilinearConv2d(64, 64, 3, terms=terms).dense().double().square().mean().item() for _ in range(40)]
    assert np.mean(variances) == pytest.approx(4 / ((24 + 8) * (24 + 8)), rel=0.05)


@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 1e-5), (torch.bfloat16, 1e-4)])
def test_half_precision_stays_near(dtype: torch.dtype, nmse: float) -> None:
    layer = make(6, 9, 3, padding=1).to(dtype)
    x = torch.from_numpy(models.inputs(2, 6, 5, 5)).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    expected = bilinear.expected_images(layer, x.float().numpy(), (3, 3), (1, 1), (1, 1, 1, 1))
    assert_close(y, expected, nmse=nmse, what=str(dtype))


def test_autocast() -> None:
    layer, x = make(6, 9, 3), torch.from_numpy(models.inputs(2, 6, 5, 5))
    plain = layer(x).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert_close(y, plain, nmse=1e-4, what="autocast")
    y.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_compiles_without_breaks() -> None:
    layer, x = make(3, 4, 3, 2, "tf_same"), torch.from_numpy(models.inputs(2, 3, 6, 6))
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="eager")(x), layer(x))


def test_copies_hold_the_factors() -> None:
    layer: Any = BilinearConv2d(64, 64, 3, 2, "tf_same")
    loaded = copy.deepcopy(layer)
    loaded.load_state_dict(layer.state_dict())
    models.randomise(layer)
    x = torch.from_numpy(models.inputs(1, 64, 6, 6))
    for other in (copy.deepcopy(layer), models.pickle.loads(models.pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))
        assert str(other) == str(layer)
    assert len(models.pickle.dumps(layer)) < 4 * (2 * 24 * 8 + 64) + 4096


def test_repr_says_how_to_make_it() -> None:
    layer = BilinearConv2d(3, 10, (3, 2), 2, "tf_same", False, terms=2)
    assert str(layer) == (
        "BilinearConv2d(3, 10, kernel_size=(3, 2), stride=(2, 2), padding='tf_same', bias=False, terms=2, "
        "in_factors=(3, 6), out_factors=(2, 5))"
    )
    assert str(eval(str(layer))) == str(layer)


# ---- the ways to be wrong


def test_sizes_below_one_are_named() -> None:
    said = "BilinearConv2d does not support in_channels=0, out_channels=4. Choose integers from 1 to 2**31 - 1."
    with pytest.raises(ShapeError, match=re.escape(said)):
        BilinearConv2d(0, 4, 3)


def test_images_of_other_channels_are_named() -> None:
    said = "BilinearConv2d expects images of shape (batch, 3, height, width) or (3, height, width), got (1, 4, 8, 8)."
    for padding in (0, "tf_same"):
        with pytest.raises(ShapeError, match=re.escape(said)):
            BilinearConv2d(3, 5, 3, padding=padding)(torch.zeros(1, 4, 8, 8))


def test_images_below_the_kernel_are_named() -> None:
    with pytest.raises(ShapeError, match=re.escape("has a window of 3 x 3 pixels, got an image of 2 x 8")):
        BilinearConv2d(3, 5, 3)(torch.zeros(1, 3, 2, 8))


def test_same_with_a_stride_is_refused() -> None:
    said = 'BilinearConv2d does not support padding="same" with stride=2.'
    with pytest.raises(ShapeError, match=re.escape(said)):
        BilinearConv2d(3, 5, 3, 2, "same")


def test_factors_that_do_not_hold_the_patch_are_named() -> None:
    said = (
        "BilinearConv2d does not support in_factors=(3, 8) for size 27. Choose two positive integers whose product "
        "is at least 27, such as (3, 9)."
    )
    with pytest.raises(ShapeError, match=re.escape(said)):
        BilinearConv2d(3, 5, 3, in_factors=(3, 8))


# ---- the comparisons can fail


def test_swapped_entries_are_noticed() -> None:
    layer, x = make(4, 6, 3, dtype=torch.float64), models.inputs(2, 4, 5, 5, dtype=np.float64)
    expected = bilinear.expected_images(layer, x, (3, 3), (1, 1), (0, 0, 0, 0))
    layer.right.data[0, [1, 2], 0] = layer.right.data[0, [2, 1], 0]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(torch.from_numpy(x)), expected, nmse=1e-7, what="swapped")
