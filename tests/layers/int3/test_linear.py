"""Int3Linear: the layout of its codes, rounding, fits, state dicts, dtypes, errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import nn

from edgefc import Int3Linear
from edgefc.errors import ShapeError, UsageError
from edgefc.fitting import rotation
from edgefc.fitting.quantized import QuantizedFit
from edgefc.layers.common.stored import stored_numbers
from edgefc.layers.int3 import packing
from edgefc.testing import assert_close

SIZES = ((1, 1), (7, 5), (31, 33), (128, 16), (129, 17), (300, 401), (384, 40))
SEEDS = (None, 2**64 - 1)


def drawn_fit(n: int, m: int, group: int, seed: int | None, **changed: Any) -> QuantizedFit:
    """Codes and scales without any pattern."""
    random = np.random.default_rng(n * 31 + m)
    multiple = max(group, 1 if seed is None else rotation.block_of(n))
    width = -(-n // multiple) * multiple
    values: dict[str, Any] = {
        "codes": random.integers(0, 8, (m, width)).astype(np.uint8),
        "scales": random.standard_normal((m, width // group)).astype(np.float16),
        "bias": random.standard_normal(m),
        "down": np.zeros((0, n), np.float16), "up": np.zeros((m, 0), np.float16), "bits": 3, **changed,
    }  # fmt: skip
    return QuantizedFit(inputs=n, group=group, seed=seed, **values)


def test_the_layout_of_the_codes() -> None:
    """The table of packing.py, bit by bit, by a program without numpy's reshapes."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 8, (20, 64)).astype(np.uint8)
    packed = packing.pack(codes)
    assert packed.shape == (2, 2, 192)
    for row in range(32):
        for unit in range(2):
            for lane in range(4):
                word = [int(packed[row // 16, unit, 64 * w + 4 * (row % 16) + lane]) for w in range(3)]
                c = [word[i // 2] >> 3 * (i % 2) & 7 for i in range(6)]
                c += [word[i] >> 6 | (word[2] >> 6 + i & 1) << 2 for i in range(2)]
                expected = [int(codes[row, 32 * unit + 4 * i + lane]) if row < 20 else 4 for i in range(8)]
                assert c == expected
    np.testing.assert_array_equal(packing.unpack(packed, 20), codes)
    scales = random.standard_normal((20, 3)).astype(np.float16)
    stored = packing.pack_scales(scales)
    assert stored.shape == (2, 3, 16) and stored[1, 2, 3] == scales[19, 2] and not stored[1, :, 4:].any()
    np.testing.assert_array_equal(packing.unpack_scales(stored, 20), scales)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("group", [32, 128])
def test_a_layer_of_a_fit_computes_what_the_fit_does(group: int, seed: int | None) -> None:
    for n, m in SIZES:
        fit = drawn_fit(n, m, group, seed)
        layer = Int3Linear.from_fit(fit, nn.Linear(n, m).double())
        x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, n)))
        assert fit.bias is not None
        with torch.no_grad():
            assert_close(layer(x), x.numpy() @ fit.dense().T + fit.bias, nmse=1e-24, what=f"{n} -> {m}")
        assert_close(layer.dense(), fit.dense(), nmse=1e-24, what=f"{n} -> {m}")


def test_exactly_three_bits_for_each_weight() -> None:
    layer = Int3Linear(4096, 4096, bias=False, device="meta")
    assert layer.packed.numel() == 4096 * 4096 * 3 // 8
    assert layer.scales.numel() * 2 == 4096 * 4096 // 128 * 2


def test_stored_numbers_are_those_of_the_fit() -> None:
    fit = drawn_fit(300, 41, 128, 7)
    layer = Int3Linear.from_fit(fit, nn.Linear(300, 41))
    assert layer.stored_numbers() == fit.codes.size + fit.scales.size
    assert stored_numbers(nn.Sequential(layer)) == fit.codes.size + fit.scales.size + 41


@pytest.mark.parametrize("seed", [None, 5])
def test_rounding_takes_the_nearest_codes(seed: int | None) -> None:
    """Every value is within half a step, but for those beyond the code 7, which the largest one's side has not."""
    torch.manual_seed(0)
    dense = nn.Linear(200, 30)
    layer = Int3Linear.from_linear(dense, group=32, seed=seed)
    weight = np.pad(dense.weight.detach().double().numpy(), ((0, 0), (0, layer.padded_features - 200)))
    if seed is not None:
        weight = rotation.rotate(weight, seed, 128)
    step = np.repeat(packing.unpack_scales(layer.scales.numpy(), 30).astype(np.float64), 32, axis=1)
    codes = packing.unpack(layer.packed.numpy(), 30).astype(np.float64)
    exact = weight / step + 4
    within = exact <= 7.5
    assert within.mean() > 0.9
    assert np.abs(exact - codes)[within].max() <= 0.5 + 1e-9
    assert (codes[~within] == 7).all()
    assert layer.bias is not None and torch.equal(layer.bias, dense.bias)


def test_what_three_bits_hold_is_rounded_to_itself() -> None:
    fit = drawn_fit(96, 24, 32, None)
    fit.codes[:, ::32] = 0  # the largest one of each group
    dense = nn.Linear(96, 24)
    with torch.no_grad():
        dense.weight.copy_(torch.from_numpy(fit.dense()))
    assert_close(Int3Linear.from_linear(dense, group=32).dense(), fit.dense(), nmse=1e-12, what="rounded")


def test_zeros_and_hardly_more() -> None:
    dense = nn.Linear(64, 4)
    with torch.no_grad():
        dense.weight.zero_()
        dense.weight[0] = 1e-12  # below the least float16
    assert not Int3Linear.from_linear(dense).dense().any()


def test_the_bias_and_the_inputs_have_gradients() -> None:
    layer, x = Int3Linear(40, 8, seed=3), torch.randn(2, 40, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and layer.bias is not None and layer.bias.grad is not None
    assert_close(x.grad, layer.dense().sum(0).expand(2, -1), nmse=1e-10, what="gradient")
    assert [name for name, _ in layer.named_parameters()] == ["bias"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_conversions_keep_codes_and_scales(dtype: torch.dtype) -> None:
    layer = Int3Linear(40, 8, seed=3)
    scales, dense = layer.scales.clone(), layer.dense()
    layer.to(dtype)
    assert layer.scales.dtype == torch.float16 and torch.equal(layer.scales, scales)
    assert layer.packed.dtype == torch.uint8
    assert layer(torch.randn(2, 40, dtype=dtype)).dtype == dtype
    assert_close(layer.float().dense(), dense, nmse=1e-12, what="dense")


def test_the_state_dict_has_rotation_and_seed(tmp_path: Path) -> None:
    layer, other = Int3Linear(40, 8, seed=3), Int3Linear(40, 8, seed=4)
    save_model(layer, str(tmp_path / "m.safetensors"))
    assert load_model(other, tmp_path / "m.safetensors") == (set(), [])
    assert other.seed == 3 and torch.equal(other.dense(), layer.dense())
    with pytest.raises(UsageError, match="rotated"):
        Int3Linear(40, 8).load_state_dict(layer.state_dict())
    with pytest.raises(UsageError, match="group"):
        Int3Linear(40, 8, seed=1, group=64).load_state_dict(layer.state_dict())


def test_flags_of_the_replaced_layer_are_kept() -> None:
    dense = nn.Linear(64, 8).bfloat16().eval()
    dense.bias.requires_grad_(False)
    for layer in (Int3Linear.from_linear(dense), Int3Linear.from_fit(drawn_fit(64, 8, 32, 1), dense)):
        assert not layer.training and layer.bias is not None
        assert layer.bias.dtype == torch.bfloat16 and not layer.bias.requires_grad
    without = drawn_fit(64, 8, 32, 1, bias=None)
    assert Int3Linear.from_fit(without, dense).bias is None


@pytest.mark.parametrize("group", [0, 16, 48, 8192, 32.0, True])
def test_groups_that_there_are_not(group: Any) -> None:
    with pytest.raises(ShapeError, match=r"does not support group=.* power of two from 32 to 4096\.$"):
        Int3Linear(8, 8, group=group)


def test_weights_and_fits_that_it_cannot_hold() -> None:
    dense = nn.Linear(8, 8)
    with pytest.raises(UsageError, match="got 4 bits and a correction of rank 0"):
        Int3Linear.from_fit(drawn_fit(8, 8, 32, None, bits=4), dense)
    correction = {"down": np.zeros((2, 8), np.float16), "up": np.zeros((8, 2), np.float16)}
    with pytest.raises(UsageError, match="a correction of rank 2"):
        Int3Linear.from_fit(drawn_fit(8, 8, 32, None, **correction), dense)
    with torch.no_grad():
        dense.weight[0, 0] = 1e6
    with pytest.raises(UsageError, match="up to 262,016 in size, got 1e"):
        Int3Linear.from_linear(dense)
