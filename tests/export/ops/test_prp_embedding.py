"""PRPEmbedding exported: its body on two evaluators against the table in float64, its operators, its memory."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgefc import PRPEmbedding, PRPLinear, generator
from edgefc.export import export
from edgefc.export.inspecting.inspector import inspect
from edgefc.runtime import profile
from edgefc.testing import assert_close, layer_model, run_onnxruntime
from tests.layers.prp.test_embedding import make, table, tokens
from tests.support import layer_models as models
from tests.support.evaluators import both

DISTRIBUTIONS = sorted(generator.CODEBOOKS)
ROUNDING = {torch.float32: 1e-13, torch.float64: 1e-26, torch.float16: 2e-6}


def check(layer: PRPEmbedding, x: Any, run: Any, **options: Any) -> None:
    model = layer_model(layer, torch.zeros(1, *x.shape[1:], dtype=torch.from_numpy(x).dtype), **options)
    y = run(model, x)
    assert y.dtype == layer.row_scale.detach().numpy().dtype
    assert_close(y, table(layer)[x], nmse=ROUNDING[layer.row_scale.dtype], what="body")


@both
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(("v", "d"), [(1, 1), (7, 3), (20, 33), (61, 64), (300, 97)])
def test_rows_of_the_table(v: int, d: int, distribution: str, run: Any) -> None:
    """At the edges of a word; of the first size some tables of few levels are all zeros."""
    layer = make(v, d, distribution=distribution, seed=5, dtype=torch.float32)
    x = np.arange(v).reshape(v, 1)
    if table(layer).any():
        check(layer, x, run)


@both
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("shape", [(9,), (2, 3), (2, 1, 3)])
def test_tokens_of_any_shape_and_either_type(shape: tuple[int, ...], dtype: Any, run: Any) -> None:
    check(make(dtype=torch.float32), tokens(20, *shape, dtype=dtype), run)


@both
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_precisions(dtype: torch.dtype, distribution: str, run: Any) -> None:
    check(make(40, 33, distribution=distribution, dtype=dtype), tokens(40, 3, 7), run)


@pytest.mark.parametrize("opset", range(18, 24))
def test_every_opset(opset: int) -> None:
    check(make(dtype=torch.float32), tokens(20, 3, 4), run_onnxruntime, opset=opset)


@both
@pytest.mark.parametrize("d", [33, 64])
def test_no_tokens_give_no_rows(d: int, run: Any) -> None:
    model = layer_model(make(20, d), torch.zeros(1, 3, dtype=torch.long))
    assert run(model, np.zeros((0, 3), np.int64)).shape == (0, 3, d)


def test_tokens_out_of_range_are_as_the_layer_says() -> None:
    """The scales are looked up as torch.nn.Embedding's rows are, where -1 is the last; P has no such row."""
    layer = make(dtype=torch.float32)
    model, last = layer_model(layer, torch.zeros(1, dtype=torch.long)), table(layer)[-1]
    with pytest.raises(Exception, match="indices element out of data bounds"):
        run_onnxruntime(model, np.array([20]))
    assert not np.allclose(run_onnxruntime(model, np.array([-1])), last)
    assert "for negative tokens down to -V it returns rows that belong to no token" in (PRPEmbedding.__doc__ or "")


@pytest.mark.parametrize("optimise", [True, False])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_the_file_gives_the_seeded_matrix(seed: int, distribution: str, optimise: bool) -> None:
    """With scales of one, to the bit."""
    layer = PRPEmbedding(50, 37, distribution=distribution, seed=seed)
    for scale in layer.parameters():
        nn.init.ones_(scale)
    model = layer_model(layer, torch.zeros(1, dtype=torch.long))
    entries = run_onnxruntime(model, np.arange(50), optimise=optimise)
    np.testing.assert_array_equal(entries, generator.matrix(seed, 50, 37, distribution))


def test_large_vocabularies() -> None:
    check(make(5000, 768, dtype=torch.float32), tokens(5000, 2, 16), run_onnxruntime)


# ---- in a model


class Language(nn.Module):
    def __init__(self, v: int, d: int, **options: Any) -> None:
        super().__init__()
        self.embedding, self.head = PRPEmbedding(v, d, **options), PRPLinear(d, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.embedding(x).mean(1))
        return y


@pytest.mark.parametrize("flat", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_model_that_starts_with_it_exports(flat: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    report = export(Language(1000, 24, padding_idx=0, seed=2**63 + 1), torch.tensor([[0, 1, 999]]), path, flat=flat)
    assert report.layers == ("embedding", "head")
    assert report.verified is not None
    if not flat:
        layer = inspect(path).layers[0]
        assert (layer.op, layer.shape, layer.dense, layer.stored) == ("PRPEmbedding", "1000 x 24", 24_000, 1024)
        assert layer.detail == "gaussian, seed 9223372036854775809"


@pytest.mark.slow
def test_nothing_folded_is_the_table(tmp_path: Path) -> None:
    """What onnxruntime keeps after loading: the scales, and the cut of words, 65,536 x 4 numbers for any vocabulary."""
    path, folded = tmp_path / "model.onnx", tmp_path / "folded.onnx"
    export(_Bare(PRPEmbedding(5000, 96)), torch.tensor([[1, 2]]), path, verify=False)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folded)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert folded.stat().st_size < 65536 * 4 * 4 + 5000 * 4 + 20_000


class _Bare(nn.Module):
    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.embedding(x)
        return y


@pytest.mark.slow
def test_a_vocabulary_of_50_000_in_a_tenth_of_its_tables_memory(tmp_path: Path) -> None:
    """Peak memory above onnxruntime's own, tokens of 128 at a time; the table of 50,000 x 512 would be 102 MB."""
    torch.manual_seed(0)
    layer, x = PRPEmbedding(50_000, 512), torch.randint(0, 50_000, (1, 128))
    report = export(_Bare(layer), x, tmp_path / "embedding.onnx")
    assert report.verified is not None
    assert report.file_bytes < 300_000
    (cell,) = profile(
        tmp_path / "embedding.onnx", preset="memory", inputs={"x": x.numpy()}, min_time_s=0.1, processes=1, launches=1
    ).cells
    assert cell.peak_above_baseline_bytes is not None
    print(f"peak {cell.peak_above_baseline_bytes / 1e6:.1f} MB, {cell.steady.median_ns / 1e3:.0f} us")
    assert cell.peak_above_baseline_bytes < 10.2e6


# ---- operators


GOLDEN = """
    Reshape Cast Reshape Cast BitwiseAnd Cast BitShift Cast Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul
    BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor
    BitwiseXor Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor Mul Sub Add Div
    Range Size Div Mul Reshape Concat Less Where Cast BitShift Cast Reshape Range Unsqueeze Cast Range Cast Cast
    BitShift Sub Unsqueeze BitShift BitwiseAnd Cast Transpose Squeeze Gather CastLike Unsqueeze Cast Unsqueeze Cast
    Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul
    BitShift BitwiseXor Mul BitShift BitwiseXor Mul Add BitShift BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul
    BitShift BitwiseXor Range Cast Cast BitShift Sub Unsqueeze BitShift BitwiseAnd Cast Transpose Gather Reshape
    Greater If Gather Unsqueeze Mul Mul Shape Reshape Concat Reshape
"""


def test_the_operators_are_these() -> None:
    """In order, without constants and without what is inside If. Change it on purpose."""
    models.check_operators(layer_model(make(), torch.zeros(1, 3, dtype=torch.long)), GOLDEN)


# ---- the comparisons can fail


@both
def test_the_neighbouring_seed_is_noticed(run: Any) -> None:
    """Meta-test: the file of seed 1 against the oracle of seed 0."""
    layer, other = (make(dtype=torch.float32, seed=seed) for seed in (0, 1))
    model, x = layer_model(other, torch.zeros(1, 3, dtype=torch.long)), tokens(20, 2, 3)
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(model, x), table(layer)[x], nmse=1e-13, what="seed")
