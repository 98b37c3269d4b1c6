"""CirculantLinear exported: both bodies on two evaluators against the matrix in float64, and their operators."""

from typing import Any

import numpy as np
import pytest
import torch

from edgefc import CirculantLinear
from edgefc.export.ops.circulant import split
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import layer_models as models
from tests.support.evaluators import both

MATMUL, DFT = "matmul", "dft"
BODIES = [pytest.param(MATMUL, id="matmul"), pytest.param(DFT, id="dft")]

ROUNDING = 1e-12
"""float32 answers: a relative error of 1e-6, some ten roundings."""

HALF_ROUNDING = 2e-6
"""float16 answers: a relative error of 1.4e-3, some ten roundings of a half."""

DFT_OFF_POWERS = 1e-7
"""What onnxruntime's DFT operator reaches in float32 off powers of two: a relative error of 3e-4."""

BLOCKS = [  # inputs, outputs, block
    pytest.param(8, 8, 1, id="one-number-blocks"),
    pytest.param(12, 12, 12, id="one-block"),
    pytest.param(12, 12, 4, id="3-by-3"),
    pytest.param(8, 24, 8, id="1-across-3-down"),
    pytest.param(24, 8, 8, id="3-across-1-down"),
    pytest.param(10, 13, 5, id="last-block-down-cut"),
    pytest.param(13, 10, 5, id="last-block-across-cut"),
    pytest.param(30, 20, 7, id="prime-blocks-both-cut"),
    pytest.param(33, 65, 31, id="long-prime-blocks"),
    pytest.param(64, 48, 16, id="power-of-two-blocks"),
    pytest.param(5, 64, 60, id="a-block-longer-than-the-input"),
    pytest.param(64, 5, 60, id="a-block-longer-than-the-output"),
]


def make(n: int, m: int, *, bias: bool = True, block: int | None = None, seed: int = 3, **body: Any) -> Any:
    return models.randomise(CirculantLinear(n, m, bias, block=block, seed=seed, **body))


def bound(body: str, run: Any, length: int) -> float:
    off_powers = body == "dft" and run is run_onnxruntime and length & (length - 1)
    return DFT_OFF_POWERS if off_powers else ROUNDING


@pytest.mark.parametrize(("run", "leading"), [(run_reference, (2, 3)), (run_onnxruntime, (4,))])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("n", "m"), models.EDGES)
def test_edge_sizes(n: int, m: int, body: str, run: Any, leading: tuple[int, ...]) -> None:
    layer, x = make(n, m), models.inputs(*leading, n)
    actual = run(layer_model(layer, n, body=body, leading=("batch", "time")[: len(leading)]), x)
    assert_close(actual, models.expected(layer, x), nmse=bound(body, run, layer.block), what=f"{leading}")


@both
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (1, 2, 3)], ids=str)
def test_any_leading_axes(leading: tuple[int, ...], bias: bool, body: str, run: Any) -> None:
    for n, m in ((8, 8), (8, 2), (2, 8)):
        layer, x = make(n, m, bias=bias), models.inputs(*leading, n)
        actual = run(layer_model(layer, n, body=body, leading=("a", "b", "c")[: len(leading)]), x)
        assert_close(actual, models.expected(layer, x), nmse=ROUNDING, what=f"{n} to {m}")


@both
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("n", "m", "block"), BLOCKS)
def test_blocks(n: int, m: int, block: int, body: str, run: Any) -> None:
    layer, x = make(n, m, block=block), models.inputs(4, n)
    actual = run(layer_model(layer, n, body=body), x)
    assert_close(actual, models.expected(layer, x), nmse=bound(body, run, block), what=f"{block=}")


@pytest.mark.parametrize(("n", "m"), models.LARGE)
def test_large_sizes_in_onnxruntime(n: int, m: int) -> None:
    layer, x = make(n, m), models.inputs(5, n)
    assert_close(run_onnxruntime(layer_model(layer, n), x), models.expected(layer, x), nmse=ROUNDING, what="matmul")


@pytest.mark.parametrize("block", [64, 192, pytest.param(97, id="prime-97")])
def test_large_blocks_in_onnxruntime(block: int) -> None:
    layer, x = make(768, 768, block=block), models.inputs(5, 768)
    assert_close(run_onnxruntime(layer_model(layer, 768), x), models.expected(layer, x), nmse=ROUNDING, what="matmul")


@pytest.mark.parametrize(
    ("n", "nmse"), [(512, ROUNDING), (1024, ROUNDING), (384, DFT_OFF_POWERS), (1009, DFT_OFF_POWERS)]
)
def test_large_sizes_with_the_dft_operator(n: int, nmse: float) -> None:
    layer, x = make(n, n), models.inputs(5, n)
    actual = run_onnxruntime(layer_model(layer, n, body=DFT), x)
    assert_close(actual, models.expected(layer, x), nmse=nmse, what="dft")


@both
@pytest.mark.parametrize(("n", "m", "block"), [(16, 16, None), (13, 29, None), (20, 12, 8)])
def test_in_float64_only_rounding_is_left(n: int, m: int, block: int | None, run: Any) -> None:
    """The matmul body on a float64 layer: ten more digits, so an error of method could not pass for rounding."""
    layer = make(n, m, block=block, dtype=torch.float64)
    x = models.inputs(4, n, dtype=np.float64)
    assert_close(run(layer_model(layer, n), x), models.expected(layer, x), nmse=1e-26, what="float64")


@both
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("n", "m", "block"), [(64, 64, None), (61, 40, None), (40, 61, 16)])
def test_float16_layers(n: int, m: int, block: int | None, body: str, run: Any) -> None:
    layer, x = make(n, m, block=block, dtype=torch.float16), models.inputs(4, n, dtype=np.float16)
    actual = run(layer_model(layer, n, body=body), x)
    assert actual.dtype == np.float16
    assert_close(actual, models.expected(layer, x), nmse=HALF_ROUNDING, what="float16")


@pytest.mark.slow
@pytest.mark.parametrize("opset", range(18, 24))
@pytest.mark.parametrize("body", BODIES)
def test_every_opset(body: str, opset: int) -> None:
    for n, m, block in ((16, 16, None), (12, 20, 4), (7, 5, None)):
        layer, x = make(n, m, block=block), models.inputs(4, n)
        actual = run_onnxruntime(layer_model(layer, n, body=body, opset=opset), x)
        nmse = bound(body, run_onnxruntime, layer.block)
        assert_close(actual, models.expected(layer, x), nmse=nmse, what=f"{n} to {m} at opset {opset}")


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
@pytest.mark.parametrize("body", BODIES)
def test_the_runtime_may_fold_or_not(body: str, threads: int, optimise: bool) -> None:
    layer, x = make(48, 32, block=16), models.inputs(4, 48)
    actual = run_onnxruntime(layer_model(layer, 48, body=body), x, threads=threads, optimise=optimise)
    assert_close(actual, models.expected(layer, x), nmse=ROUNDING, what="onnxruntime")


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
@both
def test_seeds_at_the_edge(seed: int, run: Any) -> None:
    layer, x = make(70, 70, seed=seed), models.inputs(4, 70)
    assert_close(run(layer_model(layer, 70), x), models.expected(layer, x), nmse=ROUNDING, what=f"{seed=}")


# ---- the empty batch


@pytest.mark.parametrize("body", BODIES)
def test_reference_takes_an_empty_batch(body: str) -> None:
    assert run_reference(layer_model(make(12, 7), 12, body=body), models.inputs(0, 12)).shape == (0, 7)


def test_dft_body_takes_an_empty_batch_in_onnxruntime() -> None:
    assert run_onnxruntime(layer_model(make(12, 7), 12, body=DFT), models.inputs(0, 12)).shape == (0, 7)


def test_matmul_body_refuses_an_empty_batch_in_onnxruntime() -> None:
    """onnxruntime's MatMul cannot broadcast a matrix on the left to a batch of 0.

    Known, and not ours: when this test fails, onnxruntime has learnt it, and this test can go.
    """
    with pytest.raises(Exception, match=r"MatMul node.*cannot broadcast on dim 0"):
        run_onnxruntime(layer_model(make(12, 7), 12), models.inputs(0, 12))


# ---- how a circulant is cut


@pytest.mark.parametrize("b", [1, 2, 3, 7, 12, 61, 64, 97, 384, 1009, 1024])
def test_one_circulant_is_cut_so_that_tiles_close_or_do_not_wrap(b: int) -> None:
    """tile * period = b, or a period of at least the tiles of the input and of the output less one."""
    for n, m in ((b, b), (b, 1), (1, b), (b, -(-b // 2))):
        tile, period = split(n, m, b)
        tiles = -(-n // tile) + -(-m // tile)
        assert tile * period == b or period >= tiles - 1


@pytest.mark.parametrize(("n", "m", "b"), [(12, 12, 4), (13, 10, 5), (33, 65, 31), (768, 768, 192), (100, 100, 97)])
def test_several_blocks_are_cut_by_divisors(n: int, m: int, b: int) -> None:
    tile, period = split(n, m, b)
    assert tile * period == b


# ---- operators


GOLDEN = {
    "matmul": """
        Sub Add Div Sub Add Div Min Sub Add Div Min Sub Add Div Div Add Range Unsqueeze Range Unsqueeze Mul Mod Cast Div
        Cast Mul Add Sin Unsqueeze Sin Unsqueeze Neg Concat Reshape Concat Reshape Sub Add Div Range Reshape Cast
        BitwiseAnd Cast BitShift Cast Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor
        Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul
        BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor Unsqueeze Cast Unsqueeze Cast Add BitShift BitwiseXor Mul
        BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Mul
        BitShift BitwiseXor Mul Add BitShift BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Range
        Cast Cast BitShift Sub Unsqueeze BitShift BitwiseAnd Cast Transpose Cast Mul Sub Reshape Reshape Slice CastLike
        Mul Mul Mul Greater If Reshape Reshape Concat Reshape Reshape Slice CastLike MatMul Mul Greater If Mul Reshape
        Reshape Concat Reshape Transpose Shape Gather Shape Gather Shape Gather Range Less Sub Where Mul Sub Range Sub
        Sub Mul Unsqueeze Unsqueeze Add Cast Mod Gather MatMul CastLike Range Unsqueeze Unsqueeze Sub Sub Add Gather
        Reshape Reshape Reshape Reshape Reshape Concat Reshape Gather CastLike Mul Reshape Reshape Reshape Reshape
        Reshape Concat Reshape Transpose Mul Mul Mul Reshape Reshape Reshape Concat Reshape MatMul Transpose Greater If
        Mul Reshape Reshape Concat Reshape Reshape Slice Range Equal Mul Equal Or Where Cast Div Unsqueeze Expand
        Reshape Mul Transpose CastLike MatMul Mul Mul Shape Reshape Concat Reshape Greater If Add
    """,
    "dft": """
        Sub Add Div Sub Add Div Sub Add Div Range Reshape Cast BitwiseAnd Cast BitShift Cast Add BitShift BitwiseXor Mul
        BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul
        BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor
        BitwiseXor Unsqueeze Cast Unsqueeze Cast Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor
        Mul BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor Mul Add BitShift BitwiseXor
        Mul BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Range Cast Cast BitShift Sub Unsqueeze BitShift
        BitwiseAnd Cast Transpose Cast Mul Sub Reshape Reshape Slice CastLike Mul Reshape Concat Reshape Mul Sub Reshape
        Concat Pad Reshape Reshape Concat Reshape Unsqueeze DFT Gather Gather Unsqueeze Unsqueeze Unsqueeze DFT Gather
        Gather Mul Mul Sub Mul Mul Add ReduceSum ReduceSum Sub Div Range Sub Gather Concat Gather Neg Concat Unsqueeze
        Unsqueeze Concat DFT Gather Mul Reshape Concat Reshape Reshape Slice Shape Reshape Concat Reshape Add
    """,
}


@pytest.mark.parametrize("body", BODIES)
def test_the_operators_are_these(body: str) -> None:
    """In order, without constants and without what is inside If: a new one costs latency on every device.

    Change it on purpose.
    """
    models.check_operators(layer_model(make(12, 12), 12, body=body), GOLDEN[body])


# ---- the comparisons can fail


@both
@pytest.mark.parametrize("body", BODIES)
def test_a_swapped_kernel_entry_is_noticed(body: str, run: Any) -> None:
    """Meta-test: at the bound that float32 is held to, two neighbours that changed places do not pass."""
    layer, x = make(64, 64), models.inputs(4, 64)
    model = layer_model(layer, 64, body=body)
    layer.kernel.data[0, 0, [3, 4]] = layer.kernel.data[0, 0, [4, 3]]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(model, x), models.expected(layer, x), nmse=DFT_OFF_POWERS, what="swapped")


def test_another_seed_is_noticed() -> None:
    layer, other, x = make(64, 64, seed=0), make(64, 64, seed=1), models.inputs(4, 64)
    models.take_weights(other, layer)
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run_onnxruntime(layer_model(other, 64), x), models.expected(layer, x), nmse=1e-7, what="seed")


@pytest.mark.parametrize("lost", range(0, 12, 5))
def test_one_flipped_sign_is_noticed(lost: int) -> None:
    layer, x = make(12, 12), models.inputs(4, 12)
    flipped = x.copy()
    flipped[:, lost] *= -1
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run_onnxruntime(layer_model(layer, 12), flipped), models.expected(layer, x), nmse=1e-7, what="x")
