"""PRPLinear with a stored matrix and with a seeded transform, exported: two evaluators against the matrix in float64.

And the low-rank path, which is exported as plain products beside the node. The seeded kinds are in test_bodies_prp.py.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from edgefc import PRPLinear, generator
from edgefc.export import export
from edgefc.export.bodies import held_bytes
from edgefc.export.building.body import DOMAIN, function
from edgefc.export.inspecting.inspector import inspect
from edgefc.export.ops import prp, prp_hadamard
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import layer_models as models
from tests.support.evaluators import both

KINDS = ["orthogonal", "hadamard"]
LARGE = [(384, 384), (768, 768), (1009, 1009), (1000, 300), (300, 1024)]

ROUNDING = 1e-12
"""float32 answers: a relative error of 1e-6, some ten roundings."""

HALF_ROUNDING = 4e-6
"""float16 answers: a relative error of 2e-3, some fifteen roundings of a half."""


def make(n: int, m: int, *, bias: bool = True, distribution: str = "hadamard", seed: int = 3, **options: Any) -> Any:
    return models.randomise(PRPLinear(n, m, bias, distribution=distribution, seed=seed, **options))


def check(layer: Any, model: Any, run: Any, x: Any) -> None:
    assert_close(run(model, x), models.expected(layer, x), nmse=ROUNDING, what=layer.distribution)


@pytest.mark.parametrize(("run", "leading"), [(run_reference, (2, 3)), (run_onnxruntime, (4,))])
@pytest.mark.parametrize(("n", "m"), models.EDGES)
def test_edge_sizes(n: int, m: int, run: Any, leading: tuple[int, ...]) -> None:
    layer = make(n, m)
    model = layer_model(layer, n, leading=("batch", "time")[: len(leading)])
    check(layer, model, run, models.inputs(*leading, n))


@both
@pytest.mark.parametrize("distribution", KINDS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("leading", [(), (4,), (1, 2, 3)], ids=str)
def test_any_leading_axes(leading: tuple[int, ...], bias: bool, distribution: str, run: Any) -> None:
    layer = make(9, 7, bias=bias, distribution=distribution)
    check(layer, layer_model(layer, 9, leading=("a", "b", "c")[: len(leading)]), run, models.inputs(*leading, 9))


@pytest.mark.parametrize("distribution", KINDS)
@pytest.mark.parametrize(("n", "m"), [*LARGE, pytest.param(4096, 4096, marks=pytest.mark.slow)])
def test_large_sizes_in_onnxruntime(n: int, m: int, distribution: str) -> None:
    layer = make(n, m, distribution=distribution)
    check(layer, layer_model(layer, n), run_onnxruntime, models.inputs(5, n))


@both
@pytest.mark.parametrize("distribution", KINDS)
def test_in_float64_only_rounding_is_left(distribution: str, run: Any) -> None:
    layer = make(33, 29, distribution=distribution, dtype=torch.float64)
    x = models.inputs(4, 33, dtype=np.float64)
    assert_close(run(layer_model(layer, 33), x), models.expected(layer, x), nmse=1e-26, what="float64")


@both
@pytest.mark.parametrize("distribution", KINDS)
def test_float16_layers(distribution: str, run: Any) -> None:
    layer, x = make(61, 40, distribution=distribution, dtype=torch.float16), models.inputs(4, 61, dtype=np.float16)
    actual = run(layer_model(layer, 61), x)
    assert actual.dtype == np.float16
    assert_close(actual, models.expected(layer, x), nmse=HALF_ROUNDING, what="float16")


@pytest.mark.parametrize("opset", range(18, 24))
@pytest.mark.parametrize("distribution", KINDS)
def test_every_opset(distribution: str, opset: int) -> None:
    layer = make(33, 20, distribution=distribution)
    check(layer, layer_model(layer, 33, opset=opset), run_onnxruntime, models.inputs(4, 33))


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
@pytest.mark.parametrize("distribution", KINDS)
def test_the_runtime_may_fold_or_not(distribution: str, threads: int, optimise: bool) -> None:
    layer, x = make(48, 37, distribution=distribution), models.inputs(4, 48)
    actual = run_onnxruntime(layer_model(layer, 48), x, threads=threads, optimise=optimise)
    assert_close(actual, models.expected(layer, x), nmse=ROUNDING, what="onnxruntime")


@both
@pytest.mark.parametrize("distribution", KINDS)
def test_empty_batches_give_empty_answers(distribution: str, run: Any) -> None:
    assert run(layer_model(make(12, 7, distribution=distribution), 12), models.inputs(0, 12)).shape == (0, 7)


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_the_model_holds_the_seeded_transform(seed: int) -> None:
    """Fed the identity, with scales of 1: H D2 H D1 / 64, sums of 64 signs, which float32 holds exactly."""
    layer = PRPLinear(64, 64, distribution="hadamard", seed=seed)
    layer.in_scale.data.fill_(1.0)
    layer.out_scale.data.fill_(1.0)
    h, (first, second) = models.hadamard(64), generator.matrix(seed, 2, 64, "rademacher")
    entries = run_onnxruntime(layer_model(layer, 64), np.eye(64, dtype=np.float32)).T
    np.testing.assert_array_equal(entries, h * second @ h * first / 64)


def test_the_hadamard_matrix_of_a_length_beyond_a_byte() -> None:
    """Transforms that need it have 2^17 inputs and more, so the matrix is asked for by itself."""
    written = function(
        "Probe",
        [],
        {"n": ir.AttributeType.INT},
        lambda op: prp_hadamard.hadamard(op, op.attribute("n"), op.const(0.0, "f")),
        18,
    )
    node = ir.node("Probe", [], attributes={"n": 1024}, domain=DOMAIN)
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([], node.outputs, nodes=[node], opset_imports={"": 18, DOMAIN: 1}, name="probe")
    content = ir.to_proto(ir.Model(graph, ir_version=10, functions=[written])).SerializeToString()
    (entries,) = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {})
    np.testing.assert_array_equal(entries, models.hadamard(1024))


# ---- files


@pytest.mark.parametrize(
    ("distribution", "op", "detail"),
    [
        ("gaussian", "PRPLinear", "gaussian, seed 18446744073709551615"),
        ("orthogonal", "PRPStoredLinear", "orthogonal, stored"),
        ("hadamard", "PRPHadamardLinear", "hadamard, seed 18446744073709551615"),
    ],
)
def test_a_file_of_a_layer_with_a_rank(distribution: str, op: str, detail: str, tmp_path: Path) -> None:
    """One node, two products and an addition, verified by export() itself with batches of 1, 2 and 3."""
    model = nn.Sequential(make(24, 20, distribution=distribution, seed=2**64 - 1, rank=3))
    report = export(model, torch.randn(2, 24), tmp_path / "m.onnx")
    assert report.verified is not None and report.verified.holds
    assert [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node] == [op, "Gemm", "Gemm", "Add"]
    found = inspect(tmp_path / "m.onnx")
    assert [(layer.op, layer.shape, layer.detail) for layer in found.layers] == [(op, "20 x 24", detail)]
    assert found.layers[0].stored == 24 + 2 * 20 + (24 * 20 if distribution == "orthogonal" else 0)
    assert found.other_numbers == 3 * (24 + 20)


@pytest.mark.parametrize(
    ("n", "m", "options", "held"),
    [
        pytest.param(64, 64, {"distribution": "rademacher"}, 4 * 64 * 64, id="no-padding"),
        pytest.param(33, 9, {"distribution": "rademacher"}, 4 * 64 * 16, id="rows-of-words-and-bands"),
        pytest.param(33, 9, {"distribution": "ternary"}, 4 * 36 * 16, id="eight-bits"),
        pytest.param(64, 64, {"dtype": torch.float16}, 2 * 64 * 64, id="float16"),
        pytest.param(64, 64, {"dtype": torch.float64}, 8 * 64 * 64, id="float64"),
        pytest.param(64, 64, {"distribution": "orthogonal"}, 0, id="orthogonal"),
        pytest.param(64, 64, {"distribution": "hadamard"}, 0, id="hadamard"),
    ],
)
def test_auto_counts_what_the_runtime_holds(
    n: int, m: int, options: dict[str, Any], held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit resident, one byte below it streaming."""
    model = layer_model(PRPLinear(n, m, **options), n)
    chosen = []
    for limit in (held, held - 1):
        monkeypatch.setattr(prp, "RESIDENT_LIMIT_BYTES", limit)
        chosen.append(prp.choose(held_bytes(model.graph))[0])
    assert chosen == ["resident", "streaming"]


def test_convolutions_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PRPConv2d has the attributes of a PRPLinear whose inputs are a patch, and always holds its matrix."""
    model = layer_model(PRPLinear(64, 64), 64)
    (node,) = model.graph
    node.op_type = "PRPConv2d"
    monkeypatch.setattr(prp, "RESIDENT_LIMIT_BYTES", 4 * 64 * 64 - 1)
    assert prp.choose(held_bytes(model.graph))[0] == "streaming"


# ---- operators


GOLDEN = {
    "orthogonal": """
        Mul Reshape Concat Reshape Gemm Mul Add Shape Reshape Concat Reshape
    """,
    "hadamard": """
        Mul Sub Add Div Sub Add Div Range Cast Unsqueeze Unsqueeze BitwiseAnd BitShift BitwiseXor BitShift BitwiseXor
        BitShift BitwiseXor BitShift BitwiseXor BitwiseAnd Cast Mul Sub CastLike Range Cast Unsqueeze Unsqueeze
        BitwiseAnd BitShift BitwiseXor BitShift BitwiseXor BitShift BitwiseXor BitShift BitwiseXor BitwiseAnd Cast Mul
        Sub CastLike Reshape Concat Reshape Sub Add Div Range Reshape Cast BitwiseAnd Cast BitShift Cast Add BitShift
        BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift
        BitwiseXor Mul BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift
        BitwiseXor BitwiseXor Unsqueeze Cast Unsqueeze Cast Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift
        BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor Mul Add BitShift
        BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Range Cast Cast BitShift Sub Unsqueeze
        BitShift BitwiseAnd Cast Transpose Cast Mul Sub Reshape Reshape Slice Cast Sqrt Cast Div CastLike Mul Mul Mul
        Greater If Reshape Concat Reshape MatMul Reshape Reshape Concat Reshape Transpose Reshape Concat Reshape Reshape
        Slice MatMul Sub Add Div Range Reshape Cast BitwiseAnd Cast BitShift Cast Add BitShift BitwiseXor Mul BitShift
        BitwiseXor Mul BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift
        BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor
        Unsqueeze Cast Unsqueeze Cast Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor Mul
        BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor Mul Add BitShift BitwiseXor Mul
        BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Range Cast Cast BitShift Sub Unsqueeze BitShift
        BitwiseAnd Cast Transpose Cast Mul Sub Reshape Reshape Slice Cast Sqrt Cast Div CastLike Reshape Reshape Concat
        Reshape Reshape Reshape Concat Reshape Transpose Mul Reshape Concat Reshape Reshape Slice MatMul Reshape Reshape
        Concat Reshape Transpose Reshape Concat Reshape MatMul Mul Reshape Concat Reshape Greater If Mul Add Shape
        Reshape Concat Reshape
    """,
}


@pytest.mark.parametrize("distribution", KINDS)
def test_the_operators_are_these(distribution: str) -> None:
    """In order, without constants and without what is inside If. Change it on purpose."""
    models.check_operators(layer_model(make(12, 12, distribution=distribution), 12), GOLDEN[distribution])


def test_the_transform_leaves_four_products() -> None:
    """Everything else that is large is folded when the file is loaded."""
    (function,) = layer_model(make(64, 64), 64).functions.values()
    operators = [node.op_type for node in function]
    assert operators.count("MatMul") == 4
    assert operators.count("Gemm") == 0


# ---- the comparisons can fail


@both
def test_the_neighbouring_seed_is_noticed(run: Any) -> None:
    """Meta-test: the file of seed 1 against the oracle of seed 0."""
    layer, other = (make(64, 64, seed=seed) for seed in (0, 1))
    models.take_weights(other, layer)
    with pytest.raises(AssertionError, match="nmse"):
        check(layer, layer_model(other, 64), run, models.inputs(4, 64))


@pytest.mark.parametrize("lost", [0, 31])
def test_one_flipped_sign_is_noticed(lost: int) -> None:
    layer, x = make(48, 37), models.inputs(4, 48)
    flipped = x.copy()
    flipped[:, lost] *= -1
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run_onnxruntime(layer_model(layer, 48), flipped), models.expected(layer, x), nmse=1e-7, what="x")
