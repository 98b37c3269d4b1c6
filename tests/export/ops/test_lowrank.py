"""LowRankLinear exported: a file by the exporter, and its operators. test_linear_bodies.py compares its body."""

from pathlib import Path
from typing import Any

import numpy as np
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
    assert models.running(layer_model(make(48, 31, rank=8), 48), tmp_path) == ["MatMul", "Gemm"]


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
