"""MonarchLinear exported: its body on two evaluators against numpy in float64, and its operators."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
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


@pytest.mark.parametrize(("run", "leading"), [(run_reference, (2, 3)), (run_onnxruntime, (4,))])
@pytest.mark.parametrize(("n", "m"), models.EDGES)
def test_edge_sizes(n: int, m: int, run: Any, leading: tuple[int, ...]) -> None:
    layer, x = make(n, m, blocks=min(3, n, m)), models.inputs(*leading, n)
    actual = run(layer_model(layer, n, leading=("batch", "time")[: len(leading)]), x)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what=f"{leading}")


@given(n=st.integers(1, 40), m=st.integers(1, 40), data=st.data())
@settings(max_examples=20, deadline=None)
def test_any_blocks_and_width(n: int, m: int, data: st.DataObject) -> None:
    blocks = data.draw(st.integers(1, min(n, m)))
    width = data.draw(st.none() | st.integers(1, min(-(-n // blocks), -(-m // blocks))))
    layer, x = make(n, m, blocks=blocks, width=width), models.inputs(3, n)
    assert_close(run_onnxruntime(layer_model(layer, n), x), expected(layer, x), nmse=ROUNDING, what="y")


@RUNS
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (1, 2, 3)], ids=str)
def test_any_leading_axes(leading: tuple[int, ...], bias: bool, run: Any) -> None:
    for n, m in ((8, 8), (7, 8), (8, 7)):
        layer, x = make(n, m, bias, blocks=2), models.inputs(*leading, n)
        actual = run(layer_model(layer, n, leading=("a", "b", "c")[: len(leading)]), x)
        assert_close(actual, expected(layer, x), nmse=ROUNDING, what=f"{n} to {m}")


@pytest.mark.parametrize(("n", "m"), models.LARGE)
def test_large_sizes_in_onnxruntime(n: int, m: int) -> None:
    layer, x = make(n, m, blocks=16), models.inputs(5, n)
    assert_close(run_onnxruntime(layer_model(layer, n), x), expected(layer, x), nmse=ROUNDING, what="y")


@RUNS
@pytest.mark.parametrize(
    ("dtype", "kind", "nmse"), [(torch.float64, np.float64, 1e-26), (torch.float16, np.float16, 2e-6)]
)
def test_other_precisions(dtype: torch.dtype, kind: Any, nmse: float, run: Any) -> None:
    layer, x = make(61, 40, blocks=4, dtype=dtype), models.inputs(4, 61, dtype=kind)
    actual = run(layer_model(layer, 61), x)
    assert actual.dtype == kind
    assert_close(actual, expected(layer, x), nmse=nmse, what=str(dtype))


@pytest.mark.parametrize("opset", range(18, 24))
def test_every_opset(opset: int) -> None:
    for n, m in ((16, 12), (7, 5)):
        layer, x = make(n, m, blocks=4), models.inputs(4, n)
        actual = run_onnxruntime(layer_model(layer, n, opset=opset), x)
        assert_close(actual, expected(layer, x), nmse=ROUNDING, what=f"{n} to {m} at opset {opset}")


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
def test_the_runtime_may_fold_or_not(threads: int, optimise: bool) -> None:
    layer, x = make(48, 31, blocks=5), models.inputs(4, 48)
    actual = run_onnxruntime(layer_model(layer, 48), x, threads=threads, optimise=optimise)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what="onnxruntime")


@RUNS
@pytest.mark.parametrize(("n", "m"), [(12, 12), (7, 5)])
def test_empty_batches_give_empty_answers(n: int, m: int, run: Any) -> None:
    assert run(layer_model(make(n, m, blocks=3), n), models.inputs(0, n)).shape == (0, m)


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
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    content = models.ir.to_proto(layer_model(make(n, m, blocks=4), n)).SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(tmp_path / "optimised.onnx")
    assert [node.op_type for node in optimised.graph.node] == RUNNING[n, m].split()


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
