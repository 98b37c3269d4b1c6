"""EUGenLinear exported: both ops on two evaluators against the paper's formula in float64, and their operators."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgefc import EUGenLinear, generator
from edgefc.export import export
from edgefc.export.registry import operators
from edgefc.layers.common.activations import ACTIVATIONS
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import eugen_models as eugen
from tests.support import layer_models as models
from tests.support.evaluators import EVALUATORS

ROUNDING = 1e-12
"""float32 answers: a relative error of 1e-6, some ten roundings."""

HALF_ROUNDING = 5e-6
"""float16 answers: a relative error of 2e-3; projections, products and features are rounded once each."""

OPS = pytest.mark.parametrize("projection", ["random", "trained"], ids=["seeded", "stored"])
every_run = pytest.mark.parametrize("run", EVALUATORS)


def make(n: int, m: int, bias: bool = True, **options: Any) -> EUGenLinear:
    """A layer with weights of N(0, 1) and a bias that is not zero; G as it is drawn."""
    layer = EUGenLinear(n, m, bias, **{"features": 9, "seed": 3, **options})
    torch.manual_seed(0)
    nn.init.normal_(layer.weight)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


def check(layer: EUGenLinear, run: Any, x: Any, *, nmse: float = ROUNDING, **options: Any) -> None:
    axes = ("a", "b", "c")[: x.ndim - 1]
    model = layer_model(layer, layer.in_features, leading=axes, **options)
    actual = run(model, x)
    assert actual.dtype == x.dtype
    assert_close(actual, eugen.expected(layer, x), nmse=nmse, what=run.__name__)


@pytest.mark.parametrize(("run", "leading"), [(run_reference, (2, 3)), (run_onnxruntime, (4,))])
@pytest.mark.parametrize(("n", "m"), models.EDGES)
def test_edge_sizes(n: int, m: int, run: Any, leading: tuple[int, ...]) -> None:
    check(make(n, m), run, models.inputs(*leading, n))


@every_run
@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize("options", [{}, {"one": True}, {"norm": False, "one": True}], ids=["norm", "both", "one"])
def test_every_order_and_extension_in_float64(options: Any, shared: bool, order: int, run: Any) -> None:
    """Only rounding is left, so an error of method could not pass for it. Seeded G where shared, stored where not."""
    options = {**options, "projection": "random" if shared else "trained"}
    layer = make(11, 7, order=order, shared=shared, activation="tanh", features=5, dtype=torch.float64, **options)
    check(layer, run, models.inputs(4, 11, dtype=np.float64), nmse=1e-26)


@pytest.mark.parametrize("order", [16, 17, 32])
def test_the_highest_orders(order: int) -> None:
    layer = make(7, 5, order=order, features=2, activation="tanh", dtype=torch.float64)
    check(layer, run_onnxruntime, models.inputs(3, 7, dtype=np.float64), nmse=1e-26)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_activation(activation: str) -> None:
    check(make(13, 6, activation=activation, order=2), run_onnxruntime, models.inputs(4, 13))


@pytest.mark.parametrize("distribution", sorted(generator.CODEBOOKS))
@pytest.mark.parametrize(("n", "run"), [(31, run_reference), (130, run_onnxruntime)])
def test_every_distribution(n: int, distribution: str, run: Any) -> None:
    """Rows of d + 1 codes: of whole words and of a part."""
    layer = make(n, 6, distribution=distribution, seed=2**64 - 1, dtype=torch.float64)
    check(layer, run, models.inputs(4, n, dtype=np.float64), nmse=1e-26)


@every_run
@pytest.mark.parametrize(("bias", "projection"), [(True, "random"), (False, "orthogonal")])
@pytest.mark.parametrize("leading", [(), (4,), (1, 2, 3)], ids=str)
def test_any_leading_axes(leading: tuple[int, ...], bias: bool, projection: str, run: Any) -> None:
    check(make(9, 7, bias, projection=projection, order=2), run, models.inputs(*leading, 9))


@pytest.mark.parametrize(("n", "m"), [(384, 384), (768, 3072), (1009, 1009)])
def test_large_sizes_in_onnxruntime(n: int, m: int) -> None:
    check(make(n, m, features=64, order=2), run_onnxruntime, models.inputs(5, n))


@every_run
@OPS
def test_float16_layers(projection: str, run: Any) -> None:
    layer = make(61, 40, order=2, shared=projection == "random", projection=projection, dtype=torch.float16)
    check(layer, run, models.inputs(4, 61, dtype=np.float16), nmse=HALF_ROUNDING)


def test_norms_past_the_squares_of_float16() -> None:
    """|x| = 400, of which the square, 160,000, is no number of float16."""
    layer = make(1024, 5, activation="identity", dtype=torch.float16)
    check(layer, run_onnxruntime, 12.5 * np.sign(models.inputs(4, 1024)).astype(np.float16), nmse=HALF_ROUNDING)


@pytest.mark.parametrize("opset", range(18, 24))
def test_every_opset(opset: int) -> None:
    for order, projection in ((1, "trained"), (3, "random")):
        check(make(33, 20, order=order, projection=projection), run_onnxruntime, models.inputs(4, 33), opset=opset)


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
def test_the_runtime_may_fold_or_not(shared: bool, threads: int, optimise: bool) -> None:
    layer, x = make(48, 37, order=3, shared=shared, one=True), models.inputs(4, 48)
    actual = run_onnxruntime(layer_model(layer, 48), x, threads=threads, optimise=optimise)
    assert_close(actual, eugen.expected(layer, x), nmse=ROUNDING, what="onnxruntime")


@every_run
@pytest.mark.parametrize("options", [{}, {"order": 3, "one": True}, {"order": 2, "shared": False}], ids=str)
def test_empty_batches_give_empty_answers(options: Any, run: Any) -> None:
    layer = make(12, 7, **options)
    assert run(layer_model(layer, 12), models.inputs(0, 12)).shape == (0, 7)


@pytest.mark.parametrize("optimise", [True, False], ids=["optimised", "node-by-node"])
@pytest.mark.parametrize("distribution", sorted(generator.CODEBOOKS))
def test_the_model_holds_the_seeded_matrix(distribution: str, optimise: bool) -> None:
    """Fed the identity, with the identity behind it, the model answers with numpy's matrix to the bit."""
    layer = EUGenLinear(64, 50, features=50, activation="identity", norm=False, distribution=distribution, seed=2**63)
    layer.weight.data = 8 * torch.eye(50)  # G is scaled by 1 / sqrt(64)
    entries = run_onnxruntime(layer_model(layer, 64), np.eye(64, dtype=np.float32), optimise=optimise).T
    np.testing.assert_array_equal(entries, generator.matrix(2**63, 50, 64, distribution))


def test_starts_from_trained_layers_are_exported() -> None:
    """A polynomial with a bias absorbed, and g(W): layers like any other."""
    linear, x = nn.Linear(10, 6), models.inputs(4, 10)
    for layer in (
        EUGenLinear.from_polynomial(linear, (0.3, -0.7, 0.5), features=20, shared=False),
        EUGenLinear.from_linear(linear, features=20, projection="orthogonal"),
    ):
        check(layer, run_onnxruntime, x)


# ---- a real export


@pytest.mark.parametrize("flat", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["functions", "flat"])
def test_one_file_of_both_ops(flat: bool, tmp_path: Path) -> None:
    """Two sizes of the seeded op share a function; the seeded G is not in the file; verified as export() does."""
    layers = [make(300, 20, order=2), make(20, 33, False, projection="trained"), make(33, 5, shared=False, order=3)]
    model, x, path = nn.Sequential(*layers), models.inputs(4, 300), tmp_path / "net.onnx"
    export(copy.deepcopy(model), torch.from_numpy(x), path, flat=flat)
    y = x.astype(np.float64)
    for layer in layers:
        y = eugen.expected(layer, y)
    loaded = ir.load(path)
    assert_close(run_onnxruntime_named(loaded, x), y, nmse=ROUNDING, what="file")
    if not flat:
        assert sorted(node.op_type for node in loaded.graph if node.domain) == [
            "EUGenLinear",
            "EUGenLinear",
            "EUGenStoredLinear",
        ]
        assert len(loaded.functions) == 2


def run_onnxruntime_named(model: ir.Model, x: Any) -> Any:
    """run_onnxruntime() for files, whose input has the name that the exporter gave it."""
    model.graph.inputs[0].name = "x"
    return run_onnxruntime(model, x)


def test_nodes_describe_themselves() -> None:
    """What inspect() shows of each op."""
    for options, detail in (
        ({"seed": 2**64 - 1}, "9 features of order 2, gelu, gaussian, seed 18446744073709551615"),
        ({"projection": "orthogonal"}, "9 features of order 2, gelu, stored projections"),
    ):
        node = layer_model(make(16, 8, order=2, activation="gelu", **options), 16).graph.node(0)
        attributes = {name: a.value for name, a in node.attributes.items()}
        described = operators()[node.op_type].describe(attributes)
        assert (described.shape, described.dense, described.detail) == ("8 x 16", 8 * 16 + 8, detail)


# ---- operators


GOLDEN = {
    "seeded": """
        Add Mul Div Equal Where Mul Add Add Mul Sub Add Div Range Reshape Cast BitwiseAnd Cast BitShift Cast Add
        BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor
        Mul BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift
        BitwiseXor Mul BitShift BitwiseXor BitwiseXor Range Unsqueeze Cast Unsqueeze Cast Add BitShift
        BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul
        BitShift BitwiseXor Mul BitShift BitwiseXor Mul Add BitShift BitwiseXor Mul BitwiseXor BitShift
        BitwiseXor Mul BitShift BitwiseXor Range Cast Cast BitShift Sub Unsqueeze BitShift BitwiseAnd Cast Cast
        BitShift Cast Reshape Range Unsqueeze Cast Range Cast Cast BitShift Sub Unsqueeze BitShift BitwiseAnd
        Cast Transpose Squeeze Gather CastLike Gather Reshape Concat Reshape Add Add Mul Cast Sqrt CastLike
        Reshape Slice Div Reshape Concat Reshape Equal If Add Reshape Slice Gemm Equal If Equal Greater And
        Equal Where Mul If Mul Greater If Mul Greater If Mul Greater If Mul Greater If Mul Greater If If Equal
        If Equal If Equal If Equal If Equal If Equal If Equal If Equal If Gemm Shape Reshape Concat Reshape
    """,
    "stored": """
        Reshape Concat Reshape Equal If Add Reshape Slice Gemm Equal If Equal Greater And Equal Where Mul If Mul
        Greater If Mul Greater If Mul Greater If Mul Greater If Mul Greater If If Equal If Equal If Equal If
        Equal If Equal If Equal If Equal If Equal If Gemm Shape Reshape Concat Reshape
    """,
}


@pytest.mark.parametrize(("projection", "golden"), [("random", "seeded"), ("trained", "stored")])
def test_the_operators_are_these(projection: str, golden: str) -> None:
    """In order, without constants and without what is inside If. Change it on purpose."""
    models.check_operators(layer_model(make(12, 12, projection=projection), 12), GOLDEN[golden])


# ---- the comparisons can fail


@every_run
def test_the_neighbouring_seed_is_noticed(run: Any) -> None:
    layer, other = (make(16, 16, seed=seed) for seed in (0, 1))
    x = models.inputs(4, 16)
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(layer_model(other, 16), x), eugen.expected(layer, x), nmse=ROUNDING, what="seed")


def test_one_wrong_projection_is_noticed() -> None:
    """The norm's column left out of one row of nine."""
    layer, x = make(64, 64, projection="trained"), models.inputs(4, 64)
    model = layer_model(layer, 64)
    layer.projection.data[4, -1] = 0
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run_onnxruntime(model, x), eugen.expected(layer, x), nmse=ROUNDING, what="column")
