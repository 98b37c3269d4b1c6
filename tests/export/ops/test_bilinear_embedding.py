"""BilinearEmbedding exported: its body on two evaluators against the table in float64, and its operators."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from edgefc import BilinearEmbedding
from edgefc.export import export
from edgefc.export.ops import bilinear_embedding as operator
from edgefc.testing import assert_close, layer_model, run_onnxruntime
from tests.support import bilinear_models as bilinear
from tests.support import layer_models as models
from tests.support.evaluators import both

ROUNDING = 1e-12


def make(*args: Any, **options: Any) -> Any:
    return models.randomise(BilinearEmbedding(*args, **options))  # type: ignore[type-var]


def tokens(count: int, *shape: int, dtype: Any = np.int64) -> Any:
    return np.random.default_rng(0).integers(count, size=shape).astype(dtype)


def model_of(layer: Any, x: Any, **options: Any) -> ir.Model:
    return layer_model(layer, torch.from_numpy(x), **options)


@both
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("terms", bilinear.TERMS)
@pytest.mark.parametrize(("v", "d"), [(1, 1), (2, 7), (7, 2), (12, 12), (97, 61), (384, 768)])
def test_rows(v: int, d: int, terms: int, dtype: Any, run: Any) -> None:
    layer, x = make(v, d, terms=terms), tokens(v, 4, 3, dtype=dtype)
    assert_close(run(model_of(layer, x), x), bilinear.kronecker(layer, v, d)[x], nmse=ROUNDING, what="rows")


@both
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 1, 3)])
def test_any_shape_and_the_padding_token(shape: tuple[int, ...], run: Any) -> None:
    layer, x = make(7, 5, padding_idx=3), tokens(7, *shape)
    x.flat[0] = 3
    table = bilinear.kronecker(layer, 7, 5)
    table[3] = 0
    y = run(model_of(layer, x), x)
    assert_close(y, table[x], nmse=ROUNDING, what=f"{shape}")
    assert not y.reshape(-1, 5)[0].any()


@both
@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float64, 1e-28), (torch.float16, 1e-6)])
def test_other_precisions(dtype: torch.dtype, nmse: float, run: Any) -> None:
    layer, x = make(13, 10, terms=2, padding_idx=0, dtype=dtype), tokens(13, 6) % 12 + 1
    actual = run(model_of(layer, x), x)
    assert actual.dtype == layer.left.detach().numpy().dtype
    assert_close(actual, bilinear.kronecker(layer, 13, 10)[x], nmse=nmse, what=str(dtype))


@both
def test_no_tokens_give_no_rows(run: Any) -> None:
    layer = make(7, 5, terms=2, padding_idx=3)
    assert run(model_of(layer, tokens(7, 2, 3)), tokens(7, 0, 3)).shape == (0, 3, 5)


@pytest.mark.parametrize("opset", range(18, 24))
def test_every_opset(opset: int) -> None:
    layer, x = make(7, 5, terms=2, padding_idx=6), tokens(6, 4)
    actual = run_onnxruntime(model_of(layer, x, opset=opset), x)
    assert_close(actual, bilinear.kronecker(layer, 7, 5)[x], nmse=ROUNDING, what=f"opset {opset}")


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
def test_the_runtime_may_fold_or_not(threads: int, optimise: bool) -> None:
    layer, x = make(30, 20, terms=2), tokens(30, 4)
    actual = run_onnxruntime(model_of(layer, x), x, threads=threads, optimise=optimise)
    assert_close(actual, bilinear.kronecker(layer, 30, 20)[x], nmse=ROUNDING, what="onnxruntime")


def test_a_vocabulary_whose_table_no_machine_holds() -> None:
    layer, x = BilinearEmbedding(10**9, 1024), np.array([0, 999_999_999, 123_456_789])
    actual = run_onnxruntime(model_of(layer, x), x)
    assert_close(actual, layer(torch.from_numpy(x)).detach(), nmse=ROUNDING, what="rows")


def test_a_model_by_the_exporter(tmp_path: Path) -> None:
    model = nn.Sequential(make(50, 12, terms=2, padding_idx=0), nn.Linear(12, 4)).eval()
    report = export(model, torch.randint(50, (2, 6)), tmp_path / "model.onnx")
    assert report.layers == ("0",)
    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    x = tokens(50, 5, 6)
    actual = session.run(None, {session.get_inputs()[0].name: x})[0]
    assert_close(actual, model(torch.from_numpy(x)).detach(), nmse=ROUNDING, what="file")


def test_it_says_what_it_is() -> None:
    node = next(iter(model_of(BilinearEmbedding(50, 12, terms=2), tokens(50, 3)).graph))
    described = operator.describe({name: attribute.value for name, attribute in node.attributes.items()})
    assert (described.shape, described.dense, described.detail) == ("50 x 12", 600, "5 x 10 to 3 x 4, 2 terms")


GOLDEN = """
    Shape Gather CastLike Transpose Div Gather Transpose Mod Gather Shape Shape Mul MatMul Shape Concat Reshape Squeeze
    Greater If GreaterOrEqual If
"""


def test_the_operators_are_these() -> None:
    """In order, without constants and without what is inside If. Change it on purpose."""
    models.check_operators(model_of(make(12, 12), tokens(12, 3)), GOLDEN)


@both
def test_swapped_entries_are_noticed(run: Any) -> None:
    layer, x = make(12, 6), np.arange(12)
    model, table = model_of(layer, x), bilinear.kronecker(layer, 12, 6)
    layer.left.data[0, [1, 2], 0] = layer.left.data[0, [2, 1], 0]
    assert_close(run(model, x), table, nmse=ROUNDING, what="as it was")
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(model_of(layer, x), x), table, nmse=1e-7, what="swapped")
