"""PRPLinear exported: both bodies on two evaluators against the matrix in float64, and their operators."""

from typing import Any

import numpy as np
import pytest
import torch

from edgefc import PRPLinear, generator
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import layer_models as models
from tests.support.evaluators import both

RESIDENT, STREAMING = "resident", "streaming"
BODIES = [pytest.param(RESIDENT, id="resident"), pytest.param(STREAMING, id="streaming")]
EVERY = sorted(generator.CODEBOOKS)
DISTRIBUTIONS = ["gaussian", "rademacher", "sparse", "ternary"]  # one for each number of bits, the rest by their matrix

ROUNDING = 1e-12
"""float32 answers: a relative error of 1e-6, some ten roundings."""

HALF_ROUNDING = 2e-6
"""float16 answers: a relative error of 1.4e-3, some ten roundings of a half."""


def make(n: int, m: int, *, bias: bool = True, distribution: str = "gaussian", seed: int = 3, **body: Any) -> Any:
    return models.randomise(PRPLinear(n, m, bias, distribution=distribution, seed=seed, **body))


def check(layer: Any, model: Any, run: Any, x: Any, body: str) -> None:
    """Where P is not all zeros, which a small ternary one may be: then only the bias is left."""
    assert_close(run(model, x), models.expected(layer, x), nmse=ROUNDING, what=f"{body} body")


@pytest.mark.parametrize(("run", "leading"), [(run_reference, (2, 3)), (run_onnxruntime, (4,))])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("distribution", ["gaussian", "rademacher", "ternary"])
@pytest.mark.parametrize(("n", "m"), models.EDGES)
def test_edge_sizes(n: int, m: int, distribution: str, body: str, run: Any, leading: tuple[int, ...]) -> None:
    layer = make(n, m, distribution=distribution)
    model = layer_model(layer, n, body=body, leading=("batch", "time")[: len(leading)])
    check(layer, model, run, models.inputs(*leading, n), body)


@both
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (1, 2, 3)], ids=str)
def test_any_leading_axes(leading: tuple[int, ...], bias: bool, body: str, run: Any) -> None:
    layer = make(9, 7, bias=bias)
    model = layer_model(layer, 9, body=body, leading=("a", "b", "c")[: len(leading)])
    check(layer, model, run, models.inputs(*leading, 9), body)


@pytest.mark.slow
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("n", "m"), models.LARGE)
def test_large_sizes_in_onnxruntime(n: int, m: int, body: str) -> None:
    """The streaming body takes several bands here, the last of them cut."""
    layer = make(n, m)
    check(layer, layer_model(layer, n, body=body), run_onnxruntime, models.inputs(5, n), body)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("distribution", ["rademacher", "sparse", "ternary"])
def test_large_matrices_of_every_distribution(distribution: str, body: str) -> None:
    layer = make(1009, 500, distribution=distribution)
    check(layer, layer_model(layer, 1009, body=body), run_onnxruntime, models.inputs(5, 1009), body)


@both
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("distribution", EVERY)
def test_in_float64_only_rounding_is_left(distribution: str, body: str, run: Any) -> None:
    """On a float64 layer: ten more digits, so an error of method could not pass for rounding."""
    layer = make(33, 29, distribution=distribution, dtype=torch.float64)
    x = models.inputs(4, 33, dtype=np.float64)
    actual = run(layer_model(layer, 33, body=body), x)
    assert_close(actual, models.expected(layer, x), nmse=1e-26, what="float64")


@both
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_float16_layers(distribution: str, body: str, run: Any) -> None:
    layer, x = make(61, 40, distribution=distribution, dtype=torch.float16), models.inputs(4, 61, dtype=np.float16)
    actual = run(layer_model(layer, 61, body=body), x)
    assert actual.dtype == np.float16
    assert_close(actual, models.expected(layer, x), nmse=HALF_ROUNDING, what="float16")


@pytest.mark.slow
@pytest.mark.parametrize("opset", range(18, 24))
@pytest.mark.parametrize("body", BODIES)
def test_every_opset(body: str, opset: int) -> None:
    for n, m, distribution in ((16, 16, "gaussian"), (33, 20, "rademacher"), (7, 5, "ternary")):
        layer = make(n, m, distribution=distribution)
        model = layer_model(layer, n, body=body, opset=opset)
        check(layer, model, run_onnxruntime, models.inputs(4, n), body)


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
@pytest.mark.parametrize("body", BODIES)
def test_the_runtime_may_fold_or_not(body: str, threads: int, optimise: bool) -> None:
    layer, x = make(48, 37), models.inputs(4, 48)
    actual = run_onnxruntime(layer_model(layer, 48, body=body), x, threads=threads, optimise=optimise)
    assert_close(actual, models.expected(layer, x), nmse=ROUNDING, what="onnxruntime")


@both
@pytest.mark.parametrize("body", BODIES)
def test_empty_batches_give_empty_answers(body: str, run: Any) -> None:
    assert run(layer_model(make(12, 7), 12, body=body), models.inputs(0, 12)).shape == (0, 7)


# ---- the matrix in the file


@pytest.mark.parametrize("optimise", [True, False], ids=["optimised", "node-by-node"])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    ("seed", "distribution"), [*((2**64 - 1, name) for name in EVERY), *((seed, "gaussian") for seed in (0, 1, 2**63))]
)
def test_the_model_holds_the_seeded_matrix(seed: int, distribution: str, body: str, optimise: bool) -> None:
    """Fed the identity, with in_scale 1 and out_scale sqrt(n) = 8, the model answers with numpy's matrix to the bit."""
    entries = matrix_of(64, 50, seed, distribution, body, optimise)
    np.testing.assert_array_equal(entries, generator.matrix(seed, 50, 64, distribution))


@pytest.mark.parametrize("optimise", [True, False], ids=["optimised", "node-by-node"])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("n", [61, 131])
def test_the_model_holds_the_seeded_matrix_of_a_prime(n: int, distribution: str, body: str, optimise: bool) -> None:
    """Where sqrt(n) is not exact, entries agree to three roundings of float32."""
    entries = matrix_of(n, 33, 5, distribution, body, optimise)
    np.testing.assert_allclose(entries, generator.matrix(5, 33, n, distribution), rtol=3 * 2.0**-24)


def matrix_of(n: int, m: int, seed: int, distribution: str, body: str, optimise: bool) -> Any:
    layer = PRPLinear(n, m, distribution=distribution, seed=seed)
    layer.in_scale.data.fill_(1.0)
    layer.out_scale.data.fill_(float(np.sqrt(n)))
    return run_onnxruntime(layer_model(layer, n, body=body), np.eye(n, dtype=np.float32), optimise=optimise).T


# ---- operators


GOLDEN = {
    "resident": """
        Sub Add Div Mul Reshape Cast BitwiseAnd Cast BitShift Cast Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul
        BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor
        BitwiseXor Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor Mul Sub Add Div
        Range Size Div Mul Reshape Concat Less Where Cast BitShift Cast Reshape Range Unsqueeze Cast Range Cast Cast
        BitShift Sub Unsqueeze BitShift BitwiseAnd Cast Transpose Squeeze Gather CastLike Cast Sqrt CastLike Reshape
        Concat Reshape Div Mul Greater If If Mul Mul Add Range Unsqueeze Cast Unsqueeze Cast Add BitShift BitwiseXor Mul
        BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Mul
        BitShift BitwiseXor Mul Add BitShift BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Range
        Cast Cast BitShift Sub Unsqueeze BitShift BitwiseAnd Cast Mul Reshape Mul Reshape Mul Reshape Mul Reshape Mul
        Reshape Slice Slice Slice Slice Gather Reshape Gemm Gather Reshape Gemm Gather Reshape Gemm Gather Reshape Gemm
        Concat Greater If Mul Add Shape Reshape Concat Reshape
    """,
    "streaming": """
        Reshape Cast BitwiseAnd Cast BitShift Cast Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift
        BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor Add
        BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor Mul Sub Add Div Range Size Div
        Mul Reshape Concat Less Where Cast BitShift Cast Reshape Range Unsqueeze Cast Range Cast Cast BitShift Sub
        Unsqueeze BitShift BitwiseAnd Cast Transpose Squeeze Gather CastLike Cast Sqrt CastLike Reshape Concat Reshape
        Div Mul Greater If Div Max Min Sub Add Div Loop Transpose Mul Reshape Concat Reshape Reshape Slice Mul Add Shape
        Reshape Concat Reshape
    """,
}


@pytest.mark.parametrize("body", BODIES)
def test_the_operators_are_these(body: str) -> None:
    """In order, without constants and without what is inside If and Loop. Change it on purpose."""
    models.check_operators(layer_model(make(12, 12), 12, body=body), GOLDEN[body])


# ---- the comparisons can fail


@both
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_neighbouring_seed_is_noticed(distribution: str, body: str, run: Any) -> None:
    """Meta-test: the file of seed 1 against the oracle of seed 0."""
    layer, other = (make(64, 64, distribution=distribution, seed=seed) for seed in (0, 1))
    models.take_weights(other, layer)
    with pytest.raises(AssertionError, match="nmse"):
        check(layer, layer_model(other, 64, body=body), run, models.inputs(4, 64), body)


@pytest.mark.parametrize("body", BODIES)
def test_one_wrong_entry_of_the_matrix_is_noticed(body: str) -> None:
    """One code of 4,096, read as its neighbour's level, is more than rounding."""
    layer, x = make(64, 64), models.inputs(4, 64)
    matrix = models.prp_matrix(layer)
    matrix[31, 17] *= 1.3
    y = x.astype(np.float64) @ matrix.T + layer.bias.detach().double().numpy()
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run_onnxruntime(layer_model(layer, 64, body=body), x), y, nmse=ROUNDING, what="entry")
