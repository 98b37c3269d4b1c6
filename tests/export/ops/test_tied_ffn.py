"""TiedFFN exported: the body on two evaluators against the formula, its operators, and one copy of W in the file."""

from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from edgefc import TiedFFN
from edgefc.export import export, passes
from edgefc.export.inspecting.inspector import inspect
from edgefc.layers.common.activations import ACTIVATIONS
from edgefc.runtime import profile
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.layers.tied.test_ffn import expected
from tests.support import layer_models as models
from tests.support.evaluators import both

ROUNDING, HALF_ROUNDING = 1e-12, 2e-6  # as in test_bodies_circulant.py

EDGES = [(1, 1), (1, 5), (5, 1), (7, 3), (3, 7), (61, 97), (64, 10), (384, 100), (100, 768)]


def make(d: int, h: int, activation: str = "gelu", **options: Any) -> TiedFFN:
    torch.manual_seed(3)
    return TiedFFN(d, h, activation, **options)


@pytest.mark.parametrize(("run", "leading"), [(run_reference, (2, 3)), (run_onnxruntime, (4,))])
@pytest.mark.parametrize(("d", "h"), EDGES)
def test_edge_sizes(d: int, h: int, run: Any, leading: tuple[int, ...]) -> None:
    layer, x = make(d, h), models.inputs(*leading, d)
    model = layer_model(layer, d, leading=("batch", "time")[: len(leading)])
    assert_close(run(model, x), expected(layer, x), nmse=ROUNDING, what=f"{leading}")


@both
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation_without_a_bias(activation: str, run: Any) -> None:
    layer, x = make(12, 20, activation, bias=False), models.inputs(4, 12)
    assert_close(run(layer_model(layer, 12), x), expected(layer, x), nmse=ROUNDING, what=activation)


@both
@pytest.mark.parametrize(
    ("dtype", "nmse"), [(torch.float64, 1e-26), (torch.float16, HALF_ROUNDING)], ids=["float64", "float16"]
)
def test_other_dtypes(dtype: torch.dtype, nmse: float, run: Any) -> None:
    layer = make(20, 33, "relu", dtype=dtype)
    x = models.inputs(4, 20).astype(layer.weight.detach().numpy().dtype)
    actual = run(layer_model(layer, 20), x)
    assert actual.dtype == x.dtype
    assert_close(actual, expected(layer, x), nmse=nmse, what=str(dtype))


@pytest.mark.parametrize("opset", range(18, 24))
def test_every_opset(opset: int) -> None:
    layer, x = make(16, 24), models.inputs(4, 16)
    actual = run_onnxruntime(layer_model(layer, 16, opset=opset), x)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what=f"opset {opset}")


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
def test_the_runtime_may_fold_or_not(threads: int, optimise: bool) -> None:
    layer, x = make(48, 32), models.inputs(4, 48)
    actual = run_onnxruntime(layer_model(layer, 48), x, threads=threads, optimise=optimise)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what="onnxruntime")


@both
@pytest.mark.parametrize("leading", [(0,), (2, 0), (0, 3)])
def test_empty_batches(leading: tuple[int, ...], run: Any) -> None:
    model = layer_model(make(12, 7), 12, leading=("batch", "time")[: len(leading)])
    assert run(model, models.inputs(*leading, 12)).shape == (*leading, 12)


# ---- one copy


def test_an_exported_block_stores_its_weight_once(tmp_path: Path) -> None:
    """In a model of two layers of their own and the block, at 3-D input: the file holds 64 x 256 numbers for it."""
    model = nn.Sequential(nn.LayerNorm(64), TiedFFN(64, 256), nn.Linear(64, 3))
    export(model, torch.randn(2, 5, 64), tmp_path / "tied.onnx")
    told = inspect(tmp_path / "tied.onnx")
    (layer,) = told.layers
    assert (layer.name, layer.op, layer.shape, layer.detail) == ("1", "TiedFFN", "256 x 64 and back", "gelu")
    assert (layer.stored, layer.dense) == (64 * 256 + 256 + 64, 2 * 64 * 256 + 256 + 64)
    assert told.file_bytes < 4 * (64 * 256 + 256 + 64) + 10_000


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("flat", [True, False])
def test_onnxruntime_folds_no_second_copy(level: str, flat: bool, tmp_path: Path) -> None:
    """The graph as onnxruntime runs it, written by itself: one initializer of that size, read by two products."""
    model = layer_model(make(64, 48), 64)
    if flat:
        passes.inline(model)
    ir.save(model, tmp_path / "tied.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(tmp_path / "tied.onnx", options, providers=["CPUExecutionProvider"])
    graph = ir.load(tmp_path / "optimised.onnx").graph
    large = [value for value in graph.initializers.values() if value.const_value and value.const_value.size >= 64 * 48]
    assert [list(value.shape or ()) for value in large] == [[48, 64]]
    assert [node.op_type for node, _ in large[0].uses()] == ["Gemm", "Gemm"]


@pytest.mark.slow
def test_the_memory_preset_holds_one_copy(tmp_path: Path) -> None:
    """2048 to 8192, 64 MB of weights that the runtime maps: at most 1.4 times the weights, beside the untied pair."""
    layer = make(2048, 8192)
    for name, module in {"tied": layer, "untied": layer.dense()}.items():
        export(module, torch.randn(2, 2048), tmp_path / f"{name}.onnx")
    paths = [tmp_path / "tied.onnx", tmp_path / "untied.onnx"]
    record = profile(
        paths, batch=[1, 64], preset="memory", min_time_s=0.02, processes=1, rounds=1, launches=1, progress=False
    )
    weights = sum(p.numel() * p.element_size() for p in layer.parameters())
    for cell in record.cells:
        peak = cell.peak_above_baseline_bytes
        assert peak is not None
        low, high = (0.95, 1.2) if cell.model == 0 else (1.95, 2.4)
        assert low * weights < peak < high * weights, f"{record.models[cell.model].name}, batch {cell.batch}"


# ---- operators

GOLDEN = """
    Reshape Concat Reshape Gemm Equal If Equal If Equal If Equal If Equal If Equal If Equal If Equal If Gemm Shape
    Reshape
"""


def test_the_operators_are_these() -> None:
    """In order, without constants and without what is inside If: a new one costs latency on every device.

    Change it on purpose.
    """
    models.check_operators(layer_model(make(12, 12), 12), GOLDEN)


@both
def test_a_swapped_weight_is_noticed(run: Any) -> None:
    """Meta-test: at the bound that float32 is held to, two rows that changed places do not pass."""
    layer, x = make(64, 64), models.inputs(4, 64)
    model = layer_model(layer, 64)
    layer.weight.data[[3, 4]] = layer.weight.data[[4, 3]]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(model, x), expected(layer, x), nmse=ROUNDING, what="swapped")
