"""MonarchLinear exported: any sizes, a file by the exporter, and its operators. See also test_linear_bodies.py."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefc.export import export
from edgefc.export.inspecting.inspector import inspect
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import layer_models as models
from tests.support.monarch_models import expected, make

ROUNDING = 1e-12
"""float32 answers: a relative error of 1e-6, some ten roundings."""

RUNS = pytest.mark.parametrize("run", [run_reference, run_onnxruntime])


@given(n=st.integers(1, 40), m=st.integers(1, 40), data=st.data())
@settings(max_examples=20, deadline=None)
def test_any_blocks_and_width(n: int, m: int, data: st.DataObject) -> None:
    blocks = data.draw(st.integers(1, min(n, m)))
    width = data.draw(st.none() | st.integers(1, blocks * min(-(-n // blocks), -(-m // blocks))))
    layer, x = make(n, m, blocks=blocks, width=width), models.inputs(3, n)
    assert_close(run_onnxruntime(layer_model(layer, n), x), expected(layer, x), nmse=ROUNDING, what="y")


def test_a_model_by_the_exporter(tmp_path: Path) -> None:
    """Verified by export itself, and at another batch here; inspect shows the blocks and the numbers."""
    model = torch.nn.Sequential(make(30, 12, blocks=4), torch.nn.Tanh(), make(12, 37, False, blocks=3)).eval()
    report = export(model, torch.randn(3, 30), tmp_path / "model.onnx")
    assert report.layers == ("0", "2")
    assert report.verified is not None
    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    x = models.inputs(5, 30)
    y = expected(model[2], np.tanh(expected(model[0], x)))
    assert_close(session.run(None, {session.get_inputs()[0].name: x})[0], y, nmse=ROUNDING, what="file")
    first, _ = inspect(tmp_path / "model.onnx").layers
    assert (first.op, first.shape, first.dense) == ("MonarchLinear", "12 x 30", 30 * 12 + 12)
    assert (first.detail, first.stored) == ("4 blocks, width 3", 4 * 3 * (8 + 3) + 12)


# ---- operators


GOLDEN = """
    Shape Squeeze Shape Squeeze Mul Mul Greater If Reshape Reshape Concat Reshape Shape Shape Transpose Concat Reshape
    Transpose MatMul Transpose Reshape Reshape Concat Reshape Shape Shape Transpose Concat Reshape Transpose MatMul
    Transpose Shape Reshape Concat Reshape Greater If Add
"""

RUNNING = {  # what the runtime is left with: no table, no step that weights alone decide
    (64, 64): """
        Reshape Transpose Reshape MatMul Transpose Reshape Transpose Reshape MatMul Transpose Reshape Add
    """,
    (61, 62): """
        Pad Reshape Transpose Reshape MatMul Transpose Reshape Transpose Reshape MatMul Transpose Reshape Slice Add
    """,
}


def test_the_operators_are_these() -> None:
    """In order, without constants and without what is inside If. Change it on purpose."""
    models.check_operators(layer_model(make(12, 12, blocks=3), 12), GOLDEN)


@pytest.mark.parametrize(("n", "m"), list(RUNNING))
def test_the_runtime_folds_all_that_depends_on_weights(n: int, m: int, tmp_path: Path) -> None:
    assert models.running(layer_model(make(n, m, blocks=4), n), tmp_path) == RUNNING[n, m].split()


# ---- the comparisons can fail


@RUNS
@pytest.mark.parametrize("name", ["first", "second"])
def test_swapped_entries_are_noticed(name: str, run: Any) -> None:
    layer, x = make(64, 64, blocks=4), models.inputs(4, 64)
    model = layer_model(layer, 64)
    factor = getattr(layer, name).data
    factor[0, [3, 4], 0] = factor[0, [4, 3], 0]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(model, x), expected(layer, x), nmse=1e-7, what="swapped")
