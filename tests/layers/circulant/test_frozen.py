"""CirculantLinear with a frozen kernel, the paper's randomized circulant; and what a circulant costs to apply."""

import copy
import pickle
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

import edgefc.export
import edgefc.layers.common.seeded
from edgefc import CirculantLinear, generator
from edgefc.export.inspecting.inspector import inspect
from edgefc.layers.common import seeded
from edgefc.testing import assert_close, layer_model
from tests.support import layer_models as models
from tests.support.evaluators import both


def frozen(n: int, m: int, bias: bool = True, **options: Any) -> CirculantLinear:
    return CirculantLinear(n, m, bias, frozen=True, **options)


def kernel(layer: CirculantLinear) -> NDArray[np.float64]:
    """(p, q, b) by its specification: rows 1, 2, ... of the Gaussian matrix of the layer's seed, over sqrt(n)."""
    p, q = -(-layer.out_features // layer.block), -(-layer.in_features // layer.block)
    rows = generator.matrix(layer.seed, 1 + p * q, layer.block, "gaussian")[1:].astype(np.float64)
    return rows.reshape(p, q, layer.block) / np.sqrt(layer.in_features)


@given(n=st.integers(1, 40), m=st.integers(1, 40), seed=st.integers(0, 2**64 - 1), data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_kernel_is_the_generators(n: int, m: int, seed: int, data: st.DataObject) -> None:
    layer = frozen(n, m, seed=seed, block=data.draw(st.none() | st.integers(1, max(n, m))), dtype=torch.float64)
    assert_close(layer.kernel, kernel(layer), nmse=1e-30, what="kernel")
    x = models.inputs(3, n, dtype=np.float64)
    assert_close(layer(torch.from_numpy(x)), models.expected(layer, x), nmse=1e-26, what="forward")


def test_the_kernel_tells_nothing_of_the_signs() -> None:
    """Over many seeds, the sign of kernel entry j and sign j agree half the time: within 4 standard deviations."""
    agree = [
        (layer.kernel[0, 0].sign() == seeded.signs(seed, 32, dtype=torch.float32, device="cpu")).float()
        for seed in range(200)
        for layer in [frozen(32, 32, seed=seed)]
    ]
    assert abs(float(torch.stack(agree).mean()) - 0.5) < 4 * 0.5 / np.sqrt(200 * 32)


@pytest.mark.parametrize(("n", "m", "block"), [(96, 96, None), (96, 40, None), (40, 96, None), (96, 96, 16)])
def test_frozen_layers_keep_the_variance(n: int, m: int, block: int | None) -> None:
    layers = [frozen(n, m, block=block, seed=seed) for seed in range(60)]
    assert abs(models.mean_row_power(layers) - 1) < 4 * np.sqrt(2 / (60 * n))


# ---- what is stored


def test_it_stores_the_bias_alone() -> None:
    layer = frozen(4096, 4096)
    assert {name: value.numel() for name, value in models.weights(layer).items()} == {"bias": 4096}
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    assert not models.weights(frozen(4, 4, False))


def test_copies_hold_the_bias_alone() -> None:
    models.check_copies(frozen(4096, 4096, seed=2**64 - 1), most_bytes=4 * 4096 + 4096)


def test_copies_own_their_kernel() -> None:
    layer = frozen(8, 8)
    for other in (copy.deepcopy(layer), copy.copy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other.kernel, layer.kernel)
        assert other.kernel is not layer.kernel


@pytest.mark.slow
def test_another_process_has_the_same_kernel() -> None:
    models.check_another_process("CirculantLinear(70, 50, frozen=True, seed=2**63 + 5)")


def test_a_new_start_leaves_the_kernel() -> None:
    layer = models.randomise(frozen(8, 8))
    before = layer.kernel.clone()
    layer.reset_parameters()
    assert torch.equal(layer.kernel, before)
    assert layer.bias is not None
    assert not layer.bias.any()


# ---- dtypes and devices


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_going_through_another_dtype_loses_nothing(dtype: torch.dtype, bias: bool) -> None:
    layer = frozen(24, 16, bias, block=8, seed=1)
    before = layer.kernel.clone()
    assert layer.to(dtype).kernel.dtype == dtype
    assert_close(layer.kernel, kernel(layer), nmse={torch.float64: 1e-30}.get(dtype, 1e-5), what=str(dtype))
    assert torch.equal(layer.kernel, frozen(24, 16, bias, block=8, seed=1, dtype=dtype).kernel)
    layer.float()
    assert torch.equal(layer.kernel, before)


def test_a_layer_without_memory_comes_to_life() -> None:
    """Built on the meta device, as large models are, and moved later; within a model too."""
    model = nn.Sequential(frozen(12, 7, seed=4, device="meta")).to_empty(device="cpu")
    assert torch.equal(model[0].kernel, frozen(12, 7, seed=4).kernel)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_without_memory_takes_what_is_loaded(bias: bool) -> None:
    """The kernel is not in the state dict: it is drawn beside what is, or else where the input is."""
    layer, x = frozen(12, 7, bias, seed=4), torch.from_numpy(models.inputs(2, 12))
    fresh = frozen(12, 7, bias, seed=4, device="meta")
    assert fresh(x.to("meta")).is_meta
    fresh.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(fresh(x), layer(x))
    assert torch.equal(fresh.dense(), layer.dense())
    assert fresh.double().kernel.dtype == torch.float64


def test_made_in_inference_trained_later() -> None:
    with torch.inference_mode():
        layer = frozen(8, 8).double()
    x = torch.zeros(2, 8, dtype=torch.float64, requires_grad=True)
    assert not layer.kernel.is_inference()
    torch.fft.rfft(x * layer.kernel[0, 0]).abs().sum().backward()


def test_half_precision_and_autocast() -> None:
    models.check_half_precision(frozen(61, 97), torch.float16, 1e-6)
    models.check_half_precision(frozen(61, 97, block=16), torch.bfloat16, 1e-4)
    models.check_autocast(frozen(48, 33))


def test_gradients_reach_the_input_and_the_bias_only() -> None:
    layer = frozen(7, 5, seed=3, dtype=torch.float64)
    x = torch.from_numpy(models.inputs(2, 7, dtype=np.float64)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, bias: torch.func.functional_call(layer, {"bias": bias}, x), (x, layer.bias)
    )
    assert not layer.kernel.requires_grad


@pytest.mark.slow
def test_compiles_whole() -> None:
    layer, x = models.randomise(frozen(12, 7)), torch.from_numpy(models.inputs(3, 12))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x), layer(x), nmse=1e-13, what="compiled")


def test_repr_says_how_to_make_it() -> None:
    layer = frozen(6, 5, False, block=3, seed=7)
    assert str(layer) == "CirculantLinear(in_features=6, out_features=5, bias=False, block=3, seed=7, frozen=True)"
    assert str(eval(str(layer))) == str(layer)


# ---- exported


@both
@pytest.mark.parametrize("bias", [True, False])
def test_the_file_means_the_same(bias: bool, run: Any) -> None:
    layer, x = models.randomise(frozen(13, 20, bias, block=4)), models.inputs(3, 13)
    assert_close(run(layer_model(layer, 13), x), models.expected(layer, x), nmse=1e-12, what="exported")


@pytest.mark.slow
def test_a_real_file_holds_the_kernel_as_a_weight(tmp_path: Any) -> None:
    """The state dict does not have these p q b numbers; the file does."""
    path = tmp_path / "frozen.onnx"
    report = edgefc.export.export(nn.Sequential(frozen(40, 24)), torch.zeros(2, 40), path)
    assert report.layers == ("0",)
    assert {tuple(w.dims) for w in onnx.load(path).graph.initializer} == {(1, 1, 40), (24,)}
    assert inspect(path).layers[0].stored == 40 + 24


# ---- arithmetic


@pytest.mark.parametrize(
    ("n", "m", "block", "by_hand"),
    [
        (1, 1, None, 1),  # one product, no transform
        (2, 2, None, 2 * 3 + 2),  # 1.25 * 2 * 1 = 2.5, up to 3; two real frequencies
        (8, 8, None, 2 * 30 + 14),  # 1.25 * 8 * 3; 2 real and 3 complex frequencies: 2 + 12
        (7, 7, None, 2 * 25 + 13),  # 1.25 * 7 * 2.807 = 24.56; 1 real and 3 complex
        (16, 24, 8, (2 + 3) * 30 + 6 * 14),
        (4096, 4096, None, 2 * 61440 + 8190),
    ],
)
def test_multiply_adds(n: int, m: int, block: int | None, by_hand: int) -> None:
    assert CirculantLinear(n, m, block=block).multiply_adds() == by_hand
    assert frozen(n, m, block=block).multiply_adds() == by_hand
