"""CirculantConv2d in torch: against its convolution in numpy, its gradients, the nearest to a Conv2d, and errors.

Its exported form is in test_bodies_circulant_conv.py.
"""

import copy
import io
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgefc import CirculantConv2d
from edgefc.errors import ShapeError, UsageError
from edgefc.testing import assert_close
from tests.support import circulant_conv_models as models
from tests.support.layer_models import inputs, weights

cases = pytest.mark.parametrize(("n", "m", "block", "kernel", "stride", "padding", "dilation", "size"), models.CASES)
Geometry = tuple[Any, Any, Any, Any]


@cases
def test_forward_is_the_convolution(
    n: int, m: int, block: int | None, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any
) -> None:
    layer = models.make(n, m, kernel, stride, padding, dilation, block=block, dtype=torch.float64)
    x = inputs(2, n, *size, dtype=np.float64)
    wanted = models.expected(layer, x, stride, padding, dilation)
    assert_close(layer(torch.from_numpy(x)), wanted, nmse=1e-26, what="forward")
    assert_close(layer(torch.from_numpy(x[0])), wanted[0], nmse=1e-26, what="without batch")
    np.testing.assert_array_equal(layer.dense().numpy(), models.weight(layer))
    assert layer(torch.zeros(0, n, *size, dtype=torch.float64)).shape == (0, *wanted.shape[1:])


@given(n=st.integers(1, 20), m=st.integers(1, 20), seed=st.integers(0, 2**64 - 1), bias=st.booleans(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_size_block_and_window(n: int, m: int, seed: int, bias: bool, data: st.DataObject) -> None:
    block = data.draw(st.none() | st.integers(1, max(n, m)))
    pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, dilation = data.draw(pairs), data.draw(pairs)
    padding = data.draw(st.sampled_from(["same", "valid", 0, 2, (1, 0)]))
    stride = (1, 1) if padding == "same" else data.draw(pairs)
    layer = models.make(n, m, kernel, stride, padding, dilation, bias, block=block, seed=seed, dtype=torch.float64)
    x = inputs(2, n, 8, 7, dtype=np.float64)
    wanted = models.expected(layer, x, stride, padding, dilation)
    assert_close(layer(torch.from_numpy(x)), wanted, nmse=1e-26, what="forward")


def test_a_1x1_kernel_is_the_linear_layer_at_every_pixel() -> None:
    from edgefc import CirculantLinear

    layer, linear = models.make(12, 7, 1, block=4), CirculantLinear(12, 7, block=4, seed=3)
    weights = {"kernel": layer.kernel[..., 0, 0].detach(), "bias": layer.bias.detach()}  # type: ignore[union-attr]
    linear.load_state_dict({**linear.state_dict(), **weights})
    x = torch.from_numpy(inputs(2, 12, 3, 5))
    assert_close(layer(x), linear(x.movedim(1, -1)).movedim(-1, 1), nmse=1e-13, what="1x1")


@pytest.mark.parametrize(
    ("n", "m", "block", "options"),
    [
        (1, 1, None, {}),
        (4, 4, None, {"padding": 1}),
        (5, 3, 2, {"padding": "same"}),
        (3, 5, 2, {"stride": 2, "dilation": 2, "padding": 2}),
        (4, 2, 1, {}),
    ],
    ids=str,
)
def test_gradients_by_finite_differences(n: int, m: int, block: int | None, options: dict[str, Any]) -> None:
    layer = models.make(n, m, 2, block=block, dtype=torch.float64, **options)
    x = torch.from_numpy(inputs(1, n, 3, 3, dtype=np.float64)).requires_grad_()

    def forward(x: Any, kernel: Any, bias: Any) -> Any:
        return torch.func.functional_call(layer, {"kernel": kernel, "bias": bias}, x)

    assert torch.autograd.gradcheck(forward, (x, layer.kernel, layer.bias))


def test_an_empty_batch_trains_too() -> None:
    """Gradients of zero, as torch.nn.Conv2d gives them: the other processes of a group wait for them."""
    layer = models.make(4, 4, 3)
    layer(torch.zeros(0, 4, 5, 5)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


# ---- the nearest circulant convolution


@pytest.mark.parametrize(("n", "m", "block"), [(1, 1, None), (4, 4, None), (5, 3, None), (3, 5, None), (5, 6, 2)])
def test_from_conv_is_the_least_squares_fit(n: int, m: int, block: int | None) -> None:
    """Against lstsq over one weight for each number of the kernel."""
    torch.manual_seed(1)
    conv = nn.Conv2d(n, m, (2, 1), dtype=torch.float64)
    layer = CirculantConv2d.from_conv(conv, block=block, seed=2)
    single = CirculantConv2d(n, m, (2, 1), block=block, seed=2, dtype=torch.float64)
    basis = []
    for index in range(layer.kernel.numel()):
        nn.init.zeros_(single.kernel)
        single.kernel.data.view(-1)[index] = 1.0
        basis.append(models.weight(single).ravel())
    kernel = np.linalg.lstsq(np.stack(basis, 1), conv.weight.detach().numpy().ravel(), rcond=None)[0]
    assert_close(layer.kernel.flatten(), kernel, nmse=1e-26, what="kernel")


@pytest.mark.parametrize("padding", ["same", "valid", 2, (0, 1)])
def test_from_conv_returns_a_circulant_as_it_was(padding: Any) -> None:
    """Window, bias and dtype kept: the same answers as the Conv2d that holds its weight."""
    stride = 1 if padding == "same" else (2, 1)
    original = models.make(6, 9, 3, block=3, seed=4)
    conv = nn.Conv2d(6, 9, 3, stride, padding, (1, 2))
    conv.load_state_dict({"weight": original.dense(), "bias": original.bias.detach()})  # type: ignore[union-attr]
    fitted = CirculantConv2d.from_conv(conv, block=3, seed=4)
    assert fitted.kernel.dtype == torch.float32
    assert_close(fitted.kernel, original.kernel, nmse=1e-13, what="kernel")
    x = torch.from_numpy(inputs(2, 6, 7, 8))
    assert_close(fitted(x), conv(x), nmse=1e-12, what="answers")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_from_conv_keeps_dtype_and_the_lack_of_a_bias(dtype: torch.dtype) -> None:
    layer = CirculantConv2d.from_conv(nn.Conv2d(4, 4, 3, bias=False, dtype=dtype))
    assert layer.kernel.dtype == dtype
    assert layer.bias is None


# ---- numbers stored, numbers drawn, arithmetic


def test_what_it_stores() -> None:
    """As its docstring says: one number for b weights."""
    assert CirculantConv2d(256, 256, 3, bias=False, block=16).kernel.numel() == 36_864 == 256 * 256 * 9 // 16
    layer = CirculantConv2d(64, 10, (3, 5))
    assert {name: tuple(value.shape) for name, value in weights(layer).items()} == {
        "kernel": (1, 1, 64, 3, 5),
        "bias": (10,),
    }


@pytest.mark.parametrize(("n", "m", "block"), [(24, 24, None), (24, 10, None), (10, 24, None), (24, 24, 8)])
def test_fresh_layers_keep_the_variance(n: int, m: int, block: int | None) -> None:
    """A row of the weight sums 9 n squares of N(0, 1 / (9 n)): 1, within 4 of its standard deviations."""
    torch.manual_seed(0)
    powers = [CirculantConv2d(n, m, 3, block=block).dense().square().sum((1, 2, 3)).mean() for _ in range(60)]
    assert abs(float(torch.stack(powers).mean()) - 1) < 4 * np.sqrt(2 / (60 * 9 * n))


@pytest.mark.parametrize(
    ("n", "m", "options", "by_hand"),
    [
        (1, 1, {}, 9),  # no transforms, nine products
        (8, 8, {}, 2 * 30 + 9 * 14),  # 1.25 * 8 * 3; 2 real frequencies and 3 complex ones of 4
        (16, 24, {"block": 8}, (2 + 3) * 30 + 6 * 9 * 14),
        (16, 24, {"block": 8, "stride": (2, 3)}, (2 * 6 + 3) * 30 + 6 * 9 * 14),  # six input pixels for one output
    ],
)
def test_multiply_adds(n: int, m: int, options: dict[str, Any], by_hand: int) -> None:
    assert CirculantConv2d(n, m, 3, **options).multiply_adds() == by_hand


# ---- what every layer keeps


@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 1e-6), (torch.bfloat16, 1e-4)])
def test_half_precision_rounds_the_answer_only(dtype: torch.dtype, nmse: float) -> None:
    half = models.make(12, 10, 3, block=6).to(dtype)
    x = torch.from_numpy(inputs(2, 12, 5, 5)).to(dtype)
    y = half(x)
    assert y.dtype == dtype
    assert half(x[:0]).dtype == dtype
    assert_close(y, copy.deepcopy(half).float()(x.float()), nmse=nmse, what=str(dtype))


def test_autocast() -> None:
    layer, x = models.make(12, 10, 3, block=6), torch.from_numpy(inputs(2, 12, 5, 5)).requires_grad_()
    plain = layer(x).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, again = layer(x), layer(x.bfloat16())
    assert_close(y, plain, nmse=1e-4, what="autocast")
    assert_close(again, plain, nmse=1e-4, what="autocast of bfloat16")
    y.float().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in (x, *layer.parameters()))


def test_copies_hold_the_kernel_and_no_signs() -> None:
    layer, x = models.make(64, 64, 3, padding="same", seed=2**64 - 1), torch.from_numpy(inputs(2, 64, 4, 4))
    y, buffer = layer(x), io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    assert buffer.tell() < 4 * (64 * 9 + 64) + 4096
    buffer.seek(0)
    fresh = CirculantConv2d(64, 64, 3, padding="same", seed=2**64 - 1)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    for other in (fresh, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), y)
        assert str(other) == str(layer)


def test_channels_last_and_views() -> None:
    layer, x = models.make(6, 6, 3, block=3), torch.from_numpy(inputs(2, 6, 5, 5))
    y = layer(x)
    assert_close(layer(x.contiguous(memory_format=torch.channels_last)), y, nmse=1e-13, what="channels last")
    assert_close(layer(x.expand(2, 2, 6, 5, 5)[1]), y, nmse=1e-13, what="a view")


@pytest.mark.slow
def test_compiles_whole() -> None:
    layer, x = models.make(6, 5, 3, padding="same", block=3), torch.from_numpy(inputs(2, 6, 5, 5))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x), layer(x), nmse=1e-13, what="compiled")


def test_repr_says_how_to_make_it() -> None:
    layer = CirculantConv2d(6, 5, 3, padding="same", bias=False, block=3, seed=7)
    assert str(layer) == (
        "CirculantConv2d(in_channels=6, out_channels=5, kernel_size=(3, 3), stride=(1, 1), padding='same', "
        "dilation=(1, 1), bias=False, block=3, seed=7)"
    )
    assert str(eval(str(layer))) == str(layer)


# ---- the ways to be wrong


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: CirculantConv2d(0, 4, 3),
            "CirculantConv2d does not support in_channels=0, out_channels=4. Choose integers from 1 to 2**31 - 1.",
        ),
        (
            lambda: CirculantConv2d(8, 5, 3, block=9),
            "CirculantConv2d does not support block=9 for in_channels=8, out_channels=5. Choose a block from 1 to "
            "8, or None for a single circulant.",
        ),
        (
            lambda: CirculantConv2d(4, 4, 0),
            "CirculantConv2d does not support kernel_size=0. Give an integer from 1 to 2**31 - 1, two integers "
            "(height, width).",
        ),
        (
            lambda: CirculantConv2d(4, 4, 3, (1, 2, 3)),  # type: ignore[arg-type]
            "CirculantConv2d does not support stride=(1, 2, 3). "
            "Give an integer from 1 to 2**31 - 1, two integers (height, width).",
        ),
        (
            lambda: CirculantConv2d(4, 4, 3, dilation=1.5),  # type: ignore[arg-type]
            "CirculantConv2d does not support dilation=1.5. Give an integer from 1 to 2**31 - 1, two integers "
            "(height, width).",
        ),
        (
            lambda: CirculantConv2d(4, 4, 3, padding="SAME"),  # type: ignore[arg-type]
            "CirculantConv2d does not support padding='SAME'. "
            "Give an integer from 0 to 2**31 - 1, two integers (height, width), or "
            '"valid" or "same".',
        ),
        (
            lambda: CirculantConv2d(4, 4, 3, padding=-1),
            "CirculantConv2d does not support padding=-1. "
            "Give an integer from 0 to 2**31 - 1, two integers (height, width), or "
            '"valid" or "same".',
        ),
        (
            lambda: CirculantConv2d(4, 4, 3, 2, "same"),
            'CirculantConv2d does not support padding="same" with stride=2. '
            "Choose stride=1, or give the padding in pixels.",
        ),
        (
            lambda: CirculantConv2d(4, 4, 3)(torch.zeros(2, 3, 5, 5)),
            "CirculantConv2d expects images of shape (batch, 4, height, width) or (4, height, width), got (2, 3, 5, "
            "5).",
        ),
        (
            lambda: CirculantConv2d(4, 4, 3)(torch.zeros(5, 4)),
            "CirculantConv2d expects images of shape (batch, 4, height, width) or (4, height, width), got (5, 4).",
        ),
        (
            lambda: CirculantConv2d(4, 4, 3, padding=(1, 0), dilation=2)(torch.zeros(4, 3, 2)),
            "CirculantConv2d has a window of 5 x 5 pixels, got an image of 3 x 2, 5 x 2 with padding. Use larger "
            "images, or more padding.",
        ),
        (
            lambda: CirculantConv2d(4, 4, 1, padding=1)(torch.zeros(2, 4, 0, 3)),
            "CirculantConv2d has a window of 1 x 1 pixels, got an image of 0 x 3, 2 x 5 with padding. Use larger "
            "images, or more padding.",
        ),
    ],
)
def test_wrong_sizes_are_named(make: Any, said: str) -> None:
    with pytest.raises(ShapeError, match=f"^{re.escape(said)}$"):
        make()


def test_whole_numbers_are_no_images() -> None:
    said = "CirculantConv2d expects floating-point inputs, got torch.uint8. Convert: x.float()."
    with pytest.raises(UsageError, match=re.escape(said)):
        CirculantConv2d(3, 3, 1)(torch.zeros(3, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("options", [{"groups": 2}, {"padding_mode": "circular"}])
def test_from_conv_refuses_what_it_cannot_stand_for(options: Any) -> None:
    conv = nn.Conv2d(4, 4, 3, **options)
    said = (
        f"CirculantConv2d cannot replace a Conv2d with groups={conv.groups}, "
        f"padding_mode={conv.padding_mode!r}. Use one with groups=1 and padding_mode='zeros'."
    )
    with pytest.raises(UsageError, match=re.escape(said)):
        CirculantConv2d.from_conv(conv)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0])
def test_seeds_that_are_not_of_64_bits_are_refused(seed: Any) -> None:
    with pytest.raises(UsageError, match=re.escape(f"seed must be an integer from 0 to 2**64 - 1, got {seed!r}")):
        CirculantConv2d(4, 4, 3, seed=seed)


# ---- the comparisons can fail


@pytest.mark.parametrize("change", ["kernel", "sign"])
def test_a_swapped_number_is_noticed(change: str) -> None:
    layer, x = models.make(16, 16, 3, block=8, dtype=torch.float64), inputs(2, 16, 5, 5, dtype=np.float64)
    wanted = models.expected(layer, x)
    if change == "kernel":
        layer.kernel.data[0, 1, [3, 4], 1, 2] = layer.kernel.data[0, 1, [4, 3], 1, 2]
    else:
        x[:, 5] *= -1
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(layer(torch.from_numpy(x)), wanted, nmse=1e-26, what="changed")
