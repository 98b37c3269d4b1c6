"""QuantizedLinear: its packed codes against numpy, its forward and its matrix against float64, fits, and mistakes."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model
from torch import nn

from edgefc import QuantizedLinear
from edgefc.errors import ShapeError, UsageError
from edgefc.export.verifying.rounding import magnified_rounding
from edgefc.fitting.quantized import QuantizedFit
from edgefc.fitting.rotation import block_of
from edgefc.layers.common.exact import is_exact
from edgefc.layers.quantized import packing
from edgefc.testing import assert_close
from tests.support import layer_models as models

SIZES = st.one_of(st.integers(1, 40), st.sampled_from([61, 97, 384, 768]))
BITS = st.sampled_from([2, 4, 8])
GROUPS = st.sampled_from(packing.GROUPS)


def fit_of(
    n: int, m: int, bits: int, group: int, *, seed: int | None = None, bias: bool = True, rank: int = 0
) -> QuantizedFit:
    """A fit of random codes: every code occurs, the first row has only the largest and the last only the smallest."""
    random = np.random.default_rng(n + m)
    unit = group if seed is None else max(group, block_of(n))
    width = -(-n // unit) * unit
    codes = random.integers(0, 2**bits, (m, width), np.uint8)
    codes[0], codes[-1] = 2**bits - 1, 0
    return QuantizedFit(
        inputs=n, bits=bits, group=group, seed=seed, codes=codes,
        scales=random.uniform(-0.1, 0.1, (m, width // group)).astype(np.float16),
        down=random.standard_normal((rank, n)).astype(np.float16),
        up=random.standard_normal((m, rank)).astype(np.float16),
        bias=random.standard_normal(m) if bias else None,
    )  # fmt: skip


def dense_of(fit: QuantizedFit) -> NDArray[np.float64]:
    return np.asarray(fit.dense(), np.float64)


@given(n=SIZES, m=SIZES, bits=BITS, group=GROUPS, seed=st.sampled_from([None, 0, 2**64 - 1]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_computes_what_was_fitted(n: int, m: int, bits: int, group: int, seed: int | None, data: st.DataObject) -> None:
    leading, bias = data.draw(st.sampled_from([(4,), (), (2, 3)])), data.draw(st.booleans())
    fit = fit_of(n, m, bits, group, seed=seed, bias=bias)
    layer = QuantizedLinear.from_fit(fit, nn.Linear(n, m, bias, dtype=torch.float64))
    x = models.inputs(*leading, n, dtype=np.float64)
    y = x @ dense_of(fit).T + (0 if fit.bias is None else fit.bias)
    assert_close(layer(torch.from_numpy(x)), y, nmse=1e-24, what="forward")
    assert_close(layer.dense(), dense_of(fit), nmse=1e-13 if not bias else 1e-26, what="dense")


@given(bits=BITS, group=GROUPS, rows=st.integers(1, 4), groups=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_codes_are_packed_low_bits_first(bits: int, group: int, rows: int, groups: int) -> None:
    """Against the bits of each code, written in numpy."""
    codes = np.random.default_rng(0).integers(0, 2**bits, (rows, groups * group), np.uint8)
    digits = codes[..., None] >> np.arange(bits, dtype=np.uint8) & 1  # low bits first
    expected = np.packbits(digits.reshape(rows, -1), axis=1, bitorder="little").reshape(rows, groups, -1)
    packed = packing.pack(torch.from_numpy(codes), bits, group)
    assert np.array_equal(packed, expected)
    assert np.array_equal(packing.unpack(packed, bits).reshape(rows, -1), codes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_takes_over_dtype_mode_and_gradients(dtype: torch.dtype) -> None:
    linear = nn.Linear(40, 7, dtype=dtype).eval()
    linear.bias.requires_grad_(False)
    layer = QuantizedLinear.from_fit(fit_of(40, 7, 4, 32), linear)
    assert layer.bias is not None
    assert (layer.bias.dtype, layer.bias.requires_grad, layer.training) == (dtype, False, False)
    y = layer(torch.ones(2, 40, dtype=dtype))
    assert y.dtype == dtype
    assert (layer.codes.dtype, layer.scales.dtype) == (torch.uint8, torch.float16)


def test_conversions_keep_codes_and_scales() -> None:
    layer = QuantizedLinear(40, 7, bits=4, seed=1)
    for convert in (nn.Module.half, nn.Module.bfloat16, nn.Module.double, lambda m: m.type(torch.float64)):
        other = convert(copy.deepcopy(layer))
        assert torch.equal(other.codes, layer.codes)
        assert torch.equal(other.scales, layer.scales)
        assert other.scales.dtype == torch.float16


def test_a_state_dict_in_another_dtype_is_converted(tmp_path: Path) -> None:
    """Tools convert whole state dicts to one dtype. And safetensors, with the seed."""
    layer, fresh = (QuantizedLinear(40, 7, seed=seed) for seed in (1, 2))
    x = torch.randn(3, 40)
    wide = {name: value.double() if value.is_floating_point() else value for name, value in layer.state_dict().items()}
    for assign in (False, True):
        fresh = QuantizedLinear(40, 7, seed=2)
        fresh.load_state_dict(wide, assign=assign)
        assert fresh.scales.dtype == torch.float16
        assert torch.equal(fresh.float()(x), layer(x))
    save_model(layer, str(tmp_path / "m.safetensors"))
    fresh = QuantizedLinear(40, 7, seed=3)
    assert load_model(fresh, tmp_path / "m.safetensors") == (set(), [])
    assert torch.equal(fresh(x), layer(x))


def test_other_settings_do_not_load() -> None:
    layer = QuantizedLinear(64, 7, bits=4, group=32)
    for other in (QuantizedLinear(64, 7, bits=8, group=32), QuantizedLinear(64, 7, bits=4, group=16)):
        with pytest.raises(RuntimeError, match="size mismatch for codes"):
            other.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="rotation"):
        QuantizedLinear(64, 7, seed=1).load_state_dict(layer.state_dict())


def test_counts_what_it_stores() -> None:
    layer = QuantizedLinear(4096, 4096, False, bits=4, group=32, device="meta")
    assert sum(tensor.nbytes for tensor in layer.state_dict().values()) == 9_437_184  # of the docstring
    assert layer.stored_numbers() == 4096 * 4096 + 4096 * 128


def test_a_correction_is_not_dropped() -> None:
    with pytest.raises(UsageError, match=r"correction of rank 2\. Use CorrectedLinear\.from_fit"):
        QuantizedLinear.from_fit(fit_of(40, 7, 2, 32, rank=2), nn.Linear(40, 7))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"bits": 3}, UsageError, r"QuantizedLinear does not support bits=3\. Choose one of: 2, 4, 8\."),
        ({"bits": 4.0}, UsageError, r"bits=4\.0"),
        ({"group": 24}, UsageError, r"group=24\. Choose one of: 16, 32, 64, 128, 256\."),
        ({"group": True}, UsageError, "group=True"),
        ({"seed": -1}, UsageError, "seed must be"),
        ({"in_features": 0}, ShapeError, "in_features=0"),
    ],
)
def test_mistakes(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        QuantizedLinear(**{"in_features": 40, "out_features": 7, **settings})


def test_the_stored_numbers_are_exact_in_verify() -> None:
    """edgefc verify adds errors to the product, and none to the numbers of the codes."""
    layer = QuantizedLinear(32, 8, bits=4, group=16)
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = packing.values(layer.codes, layer.scales, 4, torch.float32), layer(x)
        with magnified_rounding(0):
            changed = packing.values(layer.codes, layer.scales, 4, torch.float32), layer(x)
    assert torch.equal(plain[0], changed[0]) and not torch.equal(plain[1], changed[1])
    assert not is_exact()
