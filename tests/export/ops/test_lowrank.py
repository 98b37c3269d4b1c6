"""LowRankLinear exported: its body on two evaluators against numpy in float64, and its operators."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgefc.export import export
from edgefc.export.inspecting.inspector import inspect
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import layer_models as models
from tests.support.lowrank_models import expected, make

ROUNDING = 1e-12
"""float32 answers: a relative error of 1e-6, some ten roundings."""

RUNS = pytest.mark.parametrize("run", [run_reference, run_onnxruntime])


@pytest.mark.parametrize(("run", "leading"), [(run_reference, (2, 3)), (run_onnxruntime, (4,))])
@pytest.mark.parametrize(("n", "m"), models.EDGES)
def test_edge_sizes(n: int, m: int, run: Any, leading: tuple[int, ...]) -> None:
    layer, x = make(n, m, rank=(min(n, m) + 1) // 2), models.inputs(*leading, n)
    actual = run(layer_model(layer, n, leading=("batch", "time")[: len(leading)]), x)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what=f"{leading}")


@RUNS
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (1, 2, 3)], ids=str)
def test_any_leading_axes(leading: tuple[int, ...], bias: bool, run: Any) -> None:
    layer, x = make(7, 8, bias, rank=3), models.inputs(*leading, 7)
    actual = run(layer_model(layer, 7, leading=("a", "b", "c")[: len(leading)]), x)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what="y")


@pytest.mark.parametrize(("n", "m"), models.LARGE)
def test_large_sizes_in_onnxruntime(n: int, m: int) -> None:
    layer, x = make(n, m, rank=24), models.inputs(5, n)
    assert_close(run_onnxruntime(layer_model(layer, n), x), expected(layer, x), nmse=ROUNDING, what="y")


@RUNS
@pytest.mark.parametrize(
    ("dtype", "kind", "nmse"), [(torch.float64, np.float64, 1e-26), (torch.float16, np.float16, 2e-6)]
)
def test_other_precisions(dtype: torch.dtype, kind: Any, nmse: float, run: Any) -> None:
    layer, x = make(61, 40, rank=8, dtype=dtype), models.inputs(4, 61, dtype=kind)
    actual = run(layer_model(layer, 61), x)
    assert actual.dtype == kind
    assert_close(actual, expected(layer, x), nmse=nmse, what=str(dtype))


@pytest.mark.parametrize("opset", range(18, 24))
def test_every_opset(opset: int) -> None:
    layer, x = make(16, 12, rank=5), models.inputs(4, 16)
    actual = run_onnxruntime(layer_model(layer, 16, opset=opset), x)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what=f"opset {opset}")


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
def test_the_runtime_may_fold_or_not(threads: int, optimise: bool) -> None:
    layer, x = make(48, 31, rank=9), models.inputs(4, 48)
    actual = run_onnxruntime(layer_model(layer, 48), x, threads=threads, optimise=optimise)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what="onnxruntime")


@RUNS
def test_empty_batches_give_empty_answers(run: Any) -> None:
    assert run(layer_model(make(12, 7, rank=3), 12), models.inputs(0, 12)).shape == (0, 7)


def test_a_model_by_the_exporter(tmp_path: Path) -> None:
    """Verified by export itself, and at another batch here; inspect shows the rank and the numbers."""
    model = torch.nn.Sequential(make(30, 12, rank=4), torch.nn.Tanh(), make(12, 37, False, rank=6)).eval()
    report = export(model, torch.randn(3, 30), tmp_path / "model.onnx")
    assert report.layers == ("0", "2")
    assert report.verified is not None
    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    x = models.inputs(5, 30)
    y = expected(model[2], np.tanh(expected(model[0], x)))
    assert_close(session.run(None, {session.get_inputs()[0].name: x})[0], y, nmse=ROUNDING, what="file")
    first, _ = inspect(tmp_path / "model.onnx").layers
    assert (first.op, first.shape, first.dense, first.detail) == ("LowRankLinear", "12 x 30", 30 * 12 + 12, "rank 4")
    assert first.stored == 4 * (30 + 12) + 12


# ---- operators


def test_the_operators_are_these() -> None:
    """Change it on purpose."""
    models.check_operators(layer_model(make(12, 12, rank=3), 12), "Transpose MatMul Transpose MatMul Add")


def test_the_runtime_is_left_with_two_products(tmp_path: Path) -> None:
    """Both transpositions are folded, and the addition joins the second product."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    content = models.ir.to_proto(layer_model(make(48, 31, rank=8), 48)).SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(tmp_path / "optimised.onnx")
    assert [node.op_type for node in optimised.graph.node] == ["MatMul", "Gemm"]


# ---- the comparisons can fail


@RUNS
@pytest.mark.parametrize("name", ["down", "up"])
def test_swapped_entries_are_noticed(name: str, run: Any) -> None:
    layer, x = make(64, 64, rank=8), models.inputs(4, 64)
    model = layer_model(layer, 64)
    factor = getattr(layer, name).data
    factor[[3, 4], 0] = factor[[4, 3], 0]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(model, x), expected(layer, x), nmse=1e-7, what="swapped")
