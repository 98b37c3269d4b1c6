"""TiedAttention exported: its projections on two evaluators, its operators, and one copy of each matrix in the file."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from edgefc import TiedAttention
from edgefc.export import export
from edgefc.export.inspecting.inspector import inspect
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.layers.tied.test_attention import expected, make
from tests.support import layer_models as models
from tests.support.evaluators import both

ROUNDING, HALF_ROUNDING = 1e-12, 2e-6  # as in test_bodies_circulant.py

PROJECTIONS = ("v_proj", "out_proj")
"""As stored and transposed: the two nodes of tie="vo"."""

every_projection = pytest.mark.parametrize("name", PROJECTIONS)


class SelfAttention(nn.Module):
    """One input, one output."""

    def __init__(self, layer: TiedAttention, need_weights: bool = False) -> None:
        super().__init__()
        self.layer, self.need_weights = layer, need_weights

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x, x, x, need_weights=self.need_weights)[0]
        return y


def projection(name: str, width: int, **options: Any) -> tuple[Any, NDArray[np.float64]]:
    """The module and its matrix in float64, to be multiplied by rows from the left: x @ matrix."""
    layer = make(width, 1, "vo", **options)
    w = layer.get_parameter("v_proj.weight").detach().double().numpy()
    return getattr(layer, name), w.T if name == "v_proj" else w


def answer(module: Any, matrix: NDArray[np.float64], x: NDArray[Any]) -> NDArray[np.float64]:
    y: NDArray[np.float64] = x.astype(np.float64) @ matrix
    return y if module.bias is None else y + module.bias.detach().double().numpy()


@pytest.mark.parametrize(("run", "leading"), [(run_reference, (2, 3)), (run_onnxruntime, (4,))])
@pytest.mark.parametrize("width", [1, 2, 7, 61, 97, 384])
@every_projection
def test_edge_sizes(name: str, width: int, run: Any, leading: tuple[int, ...]) -> None:
    module, matrix = projection(name, width)
    x = models.inputs(*leading, width)
    model = layer_model(module, width, leading=("batch", "time")[: len(leading)])
    assert_close(run(model, x), answer(module, matrix, x), nmse=ROUNDING, what=f"{leading}")


@both
@pytest.mark.parametrize(
    ("dtype", "nmse"), [(torch.float64, 1e-26), (torch.float16, HALF_ROUNDING)], ids=["float64", "float16"]
)
@every_projection
def test_other_dtypes_without_a_bias(name: str, dtype: torch.dtype, nmse: float, run: Any) -> None:
    module, matrix = projection(name, 20, bias=False, dtype=dtype)
    x = models.inputs(4, 20, dtype=np.float64 if dtype == torch.float64 else np.float16)
    actual = run(layer_model(module, torch.from_numpy(x)), x)
    assert actual.dtype == x.dtype
    assert_close(actual, answer(module, matrix, x), nmse=nmse, what=str(dtype))


@pytest.mark.parametrize("opset", range(18, 24))
@every_projection
def test_every_opset(name: str, opset: int) -> None:
    module, matrix = projection(name, 16)
    x = models.inputs(4, 16)
    actual = run_onnxruntime(layer_model(module, 16, opset=opset), x)
    assert_close(actual, answer(module, matrix, x), nmse=ROUNDING, what=f"opset {opset}")


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
@every_projection
def test_the_runtime_may_fold_or_not(name: str, threads: int, optimise: bool) -> None:
    module, matrix = projection(name, 48)
    x = models.inputs(4, 48)
    actual = run_onnxruntime(layer_model(module, 48), x, threads=threads, optimise=optimise)
    assert_close(actual, answer(module, matrix, x), nmse=ROUNDING, what="onnxruntime")


@both
@pytest.mark.parametrize("leading", [(0,), (2, 0), (0, 3)])
def test_empty_batches(leading: tuple[int, ...], run: Any) -> None:
    module, _ = projection("out_proj", 12)
    model = layer_model(module, 12, leading=("batch", "time")[: len(leading)])
    assert run(model, models.inputs(*leading, 12)).shape == (*leading, 12)


# ---- one copy


@pytest.mark.parametrize(
    "tie", [pytest.param("vo", marks=pytest.mark.slow), "vo+qk_t", pytest.param("vo+qk", marks=pytest.mark.slow)]
)
def test_an_exported_layer_stores_each_matrix_once(tie: str, tmp_path: Path) -> None:
    """Run by both evaluators on batches of other sizes, against the formula; two or three matrices in the file."""
    layer = make(32, 4, tie)
    export(SelfAttention(layer, need_weights=tie == "vo+qk"), torch.randn(2, 5, 32), tmp_path / "tied.onnx")
    x = models.inputs(3, 5, 32)
    session = onnxruntime.InferenceSession(tmp_path / "tied.onnx", providers=["CPUExecutionProvider"])
    for run in (session.run, ReferenceEvaluator(str(tmp_path / "tied.onnx")).run):
        actual: Any = run(None, {session.get_inputs()[0].name: x})
        assert_close(actual[0], expected(layer, x, x), nmse=ROUNDING, what=tie)
    told = inspect(tmp_path / "tied.onnx")
    names = ["v_proj", "out_proj"] if tie == "vo" else ["q_proj", "k_proj", "v_proj", "out_proj"]
    assert [told_of.name for told_of in told.layers] == [f"layer.{name}" for name in names]
    stored = [told_of.stored for told_of in told.layers]
    assert stored == ([32 * 33, 32] if tie == "vo" else [32 * 33, 32] * 2)
    graph = ir.load(tmp_path / "tied.onnx").graph
    matrices = [v for v in graph.initializers.values() if v.const_value is not None and v.const_value.size == 32 * 32]
    assert len(matrices) == (3 if tie == "vo" else 2)


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
@every_projection
def test_onnxruntime_folds_no_second_copy(name: str, level: str, tmp_path: Path) -> None:
    """The graph as onnxruntime runs it, written by itself: the matrix as it was stored, read by one product."""
    module, _ = projection(name, 48)
    ir.save(layer_model(module, 48), tmp_path / "tied.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(tmp_path / "tied.onnx", options, providers=["CPUExecutionProvider"])
    graph = ir.load(tmp_path / "optimised.onnx").graph
    (matrix,) = (v for v in graph.initializers.values() if v.const_value is not None and v.const_value.size == 48**2)
    assert [node.op_type for node, _ in matrix.uses()] == ["Gemm"]
    assert matrix.const_value is not None
    np.testing.assert_array_equal(matrix.const_value.numpy(), module.matrix().detach().numpy())


# ---- operators


def test_the_operators_are_these() -> None:
    """In order, without constants: a new one costs latency on every device. Change it on purpose."""
    module, _ = projection("out_proj", 12)
    models.check_operators(layer_model(module, 12), "Reshape Concat Reshape Gemm Shape Reshape Concat Reshape")


@both
def test_the_matrix_untransposed_is_noticed(run: Any) -> None:
    """Meta-test: at the bound that float32 is held to, W in the place of its transpose does not pass."""
    module, matrix = projection("out_proj", 16)
    x = models.inputs(4, 16)
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(layer_model(module, 16), x), answer(module, matrix.T, x), nmse=ROUNDING, what="transpose")
