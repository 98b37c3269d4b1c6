"""Both bodies of Int3Linear against float64 of the packed weights, in onnxruntime and in onnx's own evaluator."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgefc import Int3Linear
from edgefc.export.inspecting.inspector import inspect
from edgefc.layers.common.stored import stored_numbers
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.layers.int3.test_linear import drawn_fit

BODIES = ("resident", "streaming")


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("seed", [None, 2**64 - 1])
def test_every_size_against_float64(body: str, seed: int | None) -> None:
    """The last two sizes have several bands: the last one is lower than the others, or the only one."""
    for n, m in ((1, 1), (31, 33), (300, 401), (1100, 500), (4200, 50)):
        fit = drawn_fit(n, m, 32 if m % 2 else 128, seed)
        layer = Int3Linear.from_fit(fit, nn.Linear(n, m))
        x = np.random.default_rng(1).standard_normal((3, n)).astype(np.float32)
        expected = x.astype(np.float64) @ fit.dense().T + fit.bias
        assert_close(run_onnxruntime(layer_model(layer, n, body=body), x), expected, nmse=1e-11, what=f"{n} -> {m}")


@pytest.mark.parametrize("body", BODIES)
def test_onnxs_own_evaluator_agrees(body: str) -> None:
    fit = drawn_fit(40, 19, 32, 7)
    x = np.random.default_rng(1).standard_normal((2, 3, 40)).astype(np.float32)
    model = layer_model(Int3Linear.from_fit(fit, nn.Linear(40, 19)), torch.from_numpy(x), body=body)
    assert_close(run_reference(model, x), x @ fit.dense().T + fit.bias, nmse=1e-10, what=body)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_dtypes(body: str, dtype: torch.dtype) -> None:
    fit = drawn_fit(100, 24, 64, 7)
    layer, x = Int3Linear.from_fit(fit, nn.Linear(100, 24).to(dtype)), torch.randn(3, 100, dtype=dtype)
    y = run_onnxruntime(layer_model(layer, x, body=body), x.numpy())
    assert y.dtype == x.numpy().dtype
    limit = 1e-5 if dtype == torch.float16 else 1e-22
    assert_close(y, x.double().numpy() @ fit.dense().T + fit.bias, nmse=limit, what=str(dtype))


@pytest.mark.parametrize("body", BODIES)
def test_any_leading_axes(body: str) -> None:
    fit = drawn_fit(24, 10, 32, 1)
    layer = Int3Linear.from_fit(fit, nn.Linear(24, 10))
    for leading in ((2, 3, 5), (), (4, 0)):
        x = np.ones((*leading, 24), np.float32)
        model = layer_model(layer, 24, leading=("a", "b", "c")[: len(leading)], body=body)
        assert run_onnxruntime(model, x).shape == (*leading, 10)


def test_the_resident_body_is_folded_to_one_product(tmp_path: Path) -> None:
    """Also its rotation, so that a run costs what a dense layer costs."""
    model, place = layer_model(Int3Linear(256, 64, seed=3), 256), f"{tmp_path}/folded.onnx"
    options = ort.SessionOptions()
    options.optimized_model_filepath = place
    ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    kept = {node.op_type for node in ir.load(place).graph}
    assert kept <= {"Gemm", "FusedGemm", "Reshape", "Shape", "Concat", "Slice"}, kept


def test_inspect_describes_it(tmp_path: Path) -> None:
    ir.save(layer_model(Int3Linear(256, 64, seed=3), 256), tmp_path / "m.onnx")
    report = inspect(tmp_path / "m.onnx")
    (found,) = report.layers
    assert found.detail == "3 bits, groups of 128, rotated, seed 3"
    assert found.stored == 256 * 64 + 2 * 64 + 64 == stored_numbers(Int3Linear(256, 64, seed=3))
    assert found.stored_bytes == 256 * 64 * 3 // 8 + 2 * (2 * 64) + 4 * 64
