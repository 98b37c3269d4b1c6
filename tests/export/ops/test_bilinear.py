"""BilinearLinear exported: its body on two evaluators against the authors' formula in float64, and its operators."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from edgefc import BilinearLinear
from edgefc.export import export
from edgefc.export.registry import operators
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import bilinear_models as bilinear
from tests.support import layer_models as models

ROUNDING = 1e-12
"""float32 answers: a relative error of 1e-6, some ten roundings."""

RUNS = pytest.mark.parametrize("run", [run_reference, run_onnxruntime])

FACTORS = [  # in_factors, out_factors
    pytest.param((4, 6), (3, 5), id="left-first"),
    pytest.param((3, 5), (4, 6), id="left-first-up"),
    pytest.param((6, 4), (5, 3), id="right-first"),
    pytest.param((1, 8), (1, 6), id="one-row"),
    pytest.param((8, 1), (6, 1), id="one-column"),
]


def make(*args: Any, **options: Any) -> Any:
    return models.randomise(BilinearLinear(*args, **options))  # type: ignore[type-var]


@pytest.mark.parametrize(("run", "leading"), [(run_reference, (2, 3)), (run_onnxruntime, (4,))])
@pytest.mark.parametrize(("n", "m"), models.EDGES)
def test_edge_sizes(n: int, m: int, run: Any, leading: tuple[int, ...]) -> None:
    layer, x = make(n, m), models.inputs(*leading, n)
    actual = run(layer_model(layer, n, leading=("batch", "time")[: len(leading)]), x)
    assert_close(actual, bilinear.expected(layer, x), nmse=ROUNDING, what=f"{leading}")


@RUNS
@pytest.mark.parametrize("terms", bilinear.TERMS)
@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize(("d", "u"), FACTORS)
def test_both_orders(d: tuple[int, int], u: tuple[int, int], cut: int, terms: int, run: Any) -> None:
    layer = make(d[0] * d[1] - cut, u[0] * u[1] - cut, terms=terms, in_factors=d, out_factors=u)
    x = models.inputs(4, layer.in_features)
    assert_close(run(layer_model(layer, layer.in_features), x), bilinear.expected(layer, x), nmse=ROUNDING, what="y")


@RUNS
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (1, 2, 3)], ids=str)
def test_any_leading_axes(leading: tuple[int, ...], bias: bool, run: Any) -> None:
    for n, m in ((8, 8), (8, 2), (2, 7), (7, 8)):
        layer, x = make(n, m, bias, terms=2), models.inputs(*leading, n)
        actual = run(layer_model(layer, n, leading=("a", "b", "c")[: len(leading)]), x)
        assert_close(actual, bilinear.expected(layer, x), nmse=ROUNDING, what=f"{n} to {m}")


@pytest.mark.parametrize(("n", "m"), models.LARGE)
def test_large_sizes_in_onnxruntime(n: int, m: int) -> None:
    layer, x = make(n, m), models.inputs(5, n)
    assert_close(run_onnxruntime(layer_model(layer, n), x), bilinear.expected(layer, x), nmse=ROUNDING, what="y")


@RUNS
@pytest.mark.parametrize(("n", "m", "terms"), [(16, 16, 1), (13, 29, 3), (29, 13, 3)])
def test_in_float64_only_rounding_is_left(n: int, m: int, terms: int, run: Any) -> None:
    layer, x = make(n, m, terms=terms, dtype=torch.float64), models.inputs(4, n, dtype=np.float64)
    assert_close(run(layer_model(layer, n), x), bilinear.expected(layer, x), nmse=1e-26, what="float64")


@RUNS
@pytest.mark.parametrize(("n", "m", "terms"), [(64, 64, 1), (61, 40, 2)])
def test_float16_layers(n: int, m: int, terms: int, run: Any) -> None:
    layer, x = make(n, m, terms=terms, dtype=torch.float16), models.inputs(4, n, dtype=np.float16)
    actual = run(layer_model(layer, n), x)
    assert actual.dtype == np.float16
    assert_close(actual, bilinear.expected(layer, x), nmse=2e-6, what="float16")


@pytest.mark.parametrize("opset", range(18, 24))
def test_every_opset(opset: int) -> None:
    for n, m in ((16, 12), (12, 20), (7, 5)):
        layer, x = make(n, m, terms=2), models.inputs(4, n)
        actual = run_onnxruntime(layer_model(layer, n, opset=opset), x)
        assert_close(actual, bilinear.expected(layer, x), nmse=ROUNDING, what=f"{n} to {m} at opset {opset}")


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
def test_the_runtime_may_fold_or_not(threads: int, optimise: bool) -> None:
    for n, m in ((48, 31), (31, 48)):
        layer, x = make(n, m, terms=2), models.inputs(4, n)
        actual = run_onnxruntime(layer_model(layer, n), x, threads=threads, optimise=optimise)
        assert_close(actual, bilinear.expected(layer, x), nmse=ROUNDING, what="onnxruntime")


@RUNS
@pytest.mark.parametrize(("n", "m"), [(12, 12), (24, 2), (7, 7)])
def test_empty_batches_give_empty_answers(n: int, m: int, run: Any) -> None:
    assert run(layer_model(make(n, m, terms=2), n), models.inputs(0, n)).shape == (0, m)


def test_a_model_by_the_exporter(tmp_path: Path) -> None:
    """With layers of both orders and with padding, verified by export itself, and at another batch here."""
    model = torch.nn.Sequential(make(30, 12, terms=2), torch.nn.Tanh(), make(12, 37)).eval()
    report = export(model, torch.randn(3, 30), tmp_path / "model.onnx")
    assert report.layers == ("0", "2")
    assert report.verified is not None
    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    x = models.inputs(5, 30)
    expected = bilinear.expected(model[2], np.tanh(bilinear.expected(model[0], x)))
    assert_close(session.run(None, {session.get_inputs()[0].name: x})[0], expected, nmse=ROUNDING, what="file")


def test_it_says_what_it_is() -> None:
    attributes = {"in_features": 64, "out_features": 47, "in_factors": [8, 8], "out_factors": [6, 8], "terms": 1}
    described = operators()["BilinearLinear"].describe(attributes)
    assert (described.shape, described.dense, described.detail) == ("47 x 64", 47 * 64 + 47, "8 x 8 to 6 x 8")
    described = operators()["BilinearLinear"].describe({**attributes, "terms": 3})
    assert described.detail == "8 x 8 to 6 x 8, 3 terms"


# ---- operators


GOLDEN = """
    ReduceProd ReduceProd Greater If Concat Reshape Cast Not Shape Shape Shape Shape Shape Shape Shape Where Mul
    Transpose Concat Reshape Shape Shape Where Mul Transpose Concat Reshape Shape Concat Shape Concat Mul Concat Mul
    Concat Concat If Reshape MatMul If Shape Reshape Concat Reshape Greater If Add
"""

RUNNING = {  # what the runtime is left with: no table, no step that weights alone decide
    (64, 64): "Reshape Reshape MatMul Reshape Transpose Reshape MatMul Reshape Transpose Reshape Add",
    (768, 10): "Reshape Transpose Reshape MatMul Reshape Transpose Reshape MatMul Reshape Add",
    (7, 7): "Pad Reshape Reshape MatMul Reshape Transpose Reshape MatMul Reshape Transpose Reshape Slice Add",
}


def test_the_operators_are_these() -> None:
    """In order, without constants and without what is inside If. Change it on purpose."""
    models.check_operators(layer_model(make(12, 12), 12), GOLDEN)


@pytest.mark.parametrize(("n", "m"), list(RUNNING))
def test_the_runtime_folds_all_that_depends_on_weights(n: int, m: int, tmp_path: Path) -> None:
    assert models.running(layer_model(make(n, m, terms=2), n), tmp_path) == RUNNING[n, m].split()


# ---- the comparisons can fail


@RUNS
@pytest.mark.parametrize("name", ["left", "right"])
def test_swapped_entries_are_noticed(name: str, run: Any) -> None:
    layer, x = make(64, 64), models.inputs(4, 64)
    model = layer_model(layer, 64)
    factor = getattr(layer, name).data
    factor[0, [3, 4], 0] = factor[0, [4, 3], 0]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(model, x), bilinear.expected(layer, x), nmse=1e-7, what="swapped")
