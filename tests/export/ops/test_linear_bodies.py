"""The bodies of linear layers on two evaluators, against numpy in float64: what every such body must compute.

A new layer adds one line to LAYERS: how to make it with n inputs and m outputs, and what it means.
"""

from typing import Any

import numpy as np
import pytest
import torch

from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import layer_models as models
from tests.support import lowrank_models as lowrank
from tests.support import monarch_models as monarch

ROUNDING = 1e-12
"""float32 answers: a relative error of 1e-6, some ten roundings."""

LAYERS = {  # layer(n, m, bias, **where), and its outputs for x
    "lowrank": (lambda n, m, *bias, **where: lowrank.make(n, m, *bias, rank=(min(n, m, 48) + 1) // 2, **where),
                lowrank.expected),
    "monarch": (lambda n, m, *bias, **where: monarch.make(n, m, *bias, blocks=min(3, n, m), **where),
                monarch.expected),
}  # fmt: skip
RUNS = pytest.mark.parametrize("run", [run_reference, run_onnxruntime])

every_layer = pytest.mark.parametrize(("make", "expected"), list(LAYERS.values()), ids=list(LAYERS))


@pytest.mark.parametrize(("run", "leading"), [(run_reference, (2, 3)), (run_onnxruntime, (4,))])
@pytest.mark.parametrize(("n", "m"), models.EDGES)
@every_layer
def test_edge_sizes(make: Any, expected: Any, n: int, m: int, run: Any, leading: tuple[int, ...]) -> None:
    layer, x = make(n, m), models.inputs(*leading, n)
    actual = run(layer_model(layer, n, leading=("batch", "time")[: len(leading)]), x)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what=f"{leading}")


@RUNS
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (1, 2, 3)], ids=str)
@every_layer
def test_any_leading_axes(make: Any, expected: Any, leading: tuple[int, ...], bias: bool, run: Any) -> None:
    for n, m in ((9, 9), (7, 8), (8, 7)):
        layer, x = make(n, m, bias), models.inputs(*leading, n)
        actual = run(layer_model(layer, n, leading=("a", "b", "c")[: len(leading)]), x)
        assert_close(actual, expected(layer, x), nmse=ROUNDING, what=f"{n} to {m}")


@pytest.mark.parametrize(("n", "m"), models.LARGE)
@every_layer
def test_large_sizes_in_onnxruntime(make: Any, expected: Any, n: int, m: int) -> None:
    layer, x = make(n, m), models.inputs(5, n)
    assert_close(run_onnxruntime(layer_model(layer, n), x), expected(layer, x), nmse=ROUNDING, what="y")


@RUNS
@pytest.mark.parametrize(
    ("dtype", "kind", "nmse"), [(torch.float64, np.float64, 1e-26), (torch.float16, np.float16, 2e-6)]
)
@every_layer
def test_other_precisions(make: Any, expected: Any, dtype: torch.dtype, kind: Any, nmse: float, run: Any) -> None:
    layer, x = make(61, 40, dtype=dtype), models.inputs(4, 61, dtype=kind)
    actual = run(layer_model(layer, 61), x)
    assert actual.dtype == kind
    assert_close(actual, expected(layer, x), nmse=nmse, what=str(dtype))


@pytest.mark.parametrize("opset", range(18, 24))
@every_layer
def test_every_opset(make: Any, expected: Any, opset: int) -> None:
    for n, m in ((18, 12), (7, 5)):
        layer, x = make(n, m), models.inputs(4, n)
        actual = run_onnxruntime(layer_model(layer, n, opset=opset), x)
        assert_close(actual, expected(layer, x), nmse=ROUNDING, what=f"{n} to {m} at opset {opset}")


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
@every_layer
def test_the_runtime_may_fold_or_not(make: Any, expected: Any, threads: int, optimise: bool) -> None:
    layer, x = make(48, 31), models.inputs(4, 48)
    actual = run_onnxruntime(layer_model(layer, 48), x, threads=threads, optimise=optimise)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what="onnxruntime")


@RUNS
@pytest.mark.parametrize(("n", "m"), [(12, 12), (7, 5)])
@every_layer
def test_empty_batches_give_empty_answers(make: Any, expected: Any, n: int, m: int, run: Any) -> None:
    assert run(layer_model(make(n, m), n), models.inputs(0, n)).shape == expected(make(n, m), models.inputs(0, n)).shape
