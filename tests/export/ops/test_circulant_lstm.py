"""CirculantLSTM exported: the body on two evaluators against the steps in numpy, in float64, and its operators."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgefc import CirculantLSTM
from edgefc.export.ops import circulant_lstm as operator
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import lstm_models as models
from tests.support.layer_models import check_operators

ROUNDING, HALF_ROUNDING = 1e-12, 1e-5
SEQUENCES = ("steps", "batch")
CASES = [  # inputs, units, options
    pytest.param(1, 1, {}, id="one-number"),
    pytest.param(6, 8, {}, id="one-block"),
    pytest.param(7, 5, {}, id="primes"),
    pytest.param(5, 13, {"block": 4}, id="blocks-cut-both-ways"),
    pytest.param(12, 4, {"block": 1}, id="blocks-of-one"),
    pytest.param(24, 16, {"block": 16, "seed": 2**64 - 1}, id="last-block-across-cut"),
    pytest.param(6, 8, {"gates": "keras"}, id="hard-sigmoid"),
    pytest.param(7, 13, {"block": 6, "gates": "keras", "bias": False}, id="hard-sigmoid-cut-no-bias"),
]
both = pytest.mark.parametrize("run", [run_reference, run_onnxruntime])


def make(n: int, h: int, **options: Any) -> CirculantLSTM:
    return models.randomise(CirculantLSTM(n, h, **options))


def wanted(lstm: CirculantLSTM, x: Any, state: Any = None) -> Any:
    """y (S, B, h), h_n and c_n (B, h) of a stack of one."""
    y, h, c = models.expected(lstm, x, state)
    return y, h[0], c[0]


@both
@pytest.mark.parametrize(("n", "h", "options"), CASES)
def test_any_steps_and_any_batch(n: int, h: int, options: dict[str, Any], run: Any) -> None:
    """One model for sequences of every shape."""
    lstm = make(n, h, **options)
    model = layer_model(lstm, n, leading=SEQUENCES)
    for steps, batch in ((4, 3), (1, 2), (3, 1)):
        x = models.inputs(steps, batch, n, dtype=np.float32)
        models.check_answers(run(model, x), wanted(lstm, x), ROUNDING, f"{steps} steps, batch {batch}")


@both
@pytest.mark.parametrize(("n", "h", "options"), CASES)
def test_in_float64_only_rounding_is_left(n: int, h: int, options: dict[str, Any], run: Any) -> None:
    """Ten more digits, so that an error of method could not pass for rounding; first states other than zero."""
    lstm = make(n, h, dtype=torch.float64, **options)
    started, x = models.Started(lstm, 2), models.inputs(4, 2, n)
    state = tuple(part.numpy() for part in started.state)
    answers = run(layer_model(started, n, leading=SEQUENCES), x)
    models.check_answers(answers, wanted(lstm, x, state), 1e-26, "float64")


@both
def test_float16(run: Any) -> None:
    lstm = make(12, 13, dtype=torch.float16)
    x = models.inputs(4, 3, 12, dtype=np.float16)
    answers = run(layer_model(lstm, 12, leading=SEQUENCES), x)
    assert all(answer.dtype == np.float16 for answer in answers)
    models.check_answers(answers, wanted(lstm, x), HALF_ROUNDING, "float16")


@pytest.mark.parametrize(
    ("n", "h", "options"), [(384, 384, {}), (61, 768, {"block": 16, "gates": "keras"}), (768, 97, {})]
)
def test_large_sizes_in_onnxruntime(n: int, h: int, options: dict[str, Any]) -> None:
    lstm, x = make(n, h, **options), models.inputs(3, 2, n, dtype=np.float32)
    models.check_answers(
        run_onnxruntime(layer_model(lstm, n, leading=SEQUENCES), x), wanted(lstm, x), ROUNDING, "large"
    )


@pytest.mark.parametrize("opset", range(18, 24))
def test_every_opset(opset: int) -> None:
    lstm, x = make(7, 13), models.inputs(3, 2, 7, dtype=np.float32)
    model = layer_model(lstm, 7, leading=SEQUENCES, opset=opset)
    models.check_answers(run_onnxruntime(model, x), wanted(lstm, x), ROUNDING, f"opset {opset}")


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
@pytest.mark.parametrize("gates", ["torch", "keras"])
def test_the_runtime_may_fold_or_not(gates: str, threads: int, optimise: bool) -> None:
    lstm, x = make(7, 13, gates=gates), models.inputs(3, 2, 7, dtype=np.float32)
    model = layer_model(lstm, 7, leading=SEQUENCES)
    answers = run_onnxruntime(model, x, threads=threads, optimise=optimise)
    models.check_answers(answers, wanted(lstm, x), ROUNDING, gates)


def test_stacks_export_with_an_open_batch(tmp_path: Path) -> None:
    """Between an Embedding and a Linear."""
    models.check_tagger_exports(make(6, 8, num_layers=2, batch_first=True), tmp_path)


@pytest.mark.slow
def test_states_go_in_and_come_out(tmp_path: Path) -> None:
    models.check_states_export(make(6, 8, num_layers=2, batch_first=True), tmp_path)


# ---- the empty ones


def test_reference_takes_an_empty_batch() -> None:
    answers = run_reference(layer_model(make(6, 8), 6, leading=SEQUENCES), models.inputs(3, 0, 6, dtype=np.float32))
    assert [answer.shape for answer in answers] == [(3, 0, 8), (0, 8), (0, 8)]


def test_onnxruntime_takes_an_empty_batch() -> None:
    answers = run_onnxruntime(layer_model(make(6, 8), 6, leading=SEQUENCES), models.inputs(3, 0, 6, dtype=np.float32))
    assert [answer.shape for answer in answers] == [(3, 0, 8), (0, 8), (0, 8)]


@both
def test_no_steps_are_refused(run: Any) -> None:
    """As by torch.nn.LSTM."""
    with pytest.raises(Exception, match=r"(?i)scan|MatMul"):
        run(layer_model(make(6, 8), 6, leading=SEQUENCES), models.inputs(0, 2, 6, dtype=np.float32))


# ---- what the operator says, and the operators


def test_nodes_are_described() -> None:
    said = operator.describe({"input_size": 6, "hidden_size": 8, "block": 4, "sign_seed": -1, "hard_sigmoid": 0})
    assert said.shape == "4 x 8 x (6 + 8)"
    assert said.dense == sum(p.numel() for p in torch.nn.LSTM(6, 8).parameters())
    assert said.detail == f"block 4, signs from seed {2**64 - 1}"


@pytest.mark.parametrize(
    ("n", "h", "block", "tile"), [(256, 256, 256, 16), (256, 256, 16, 1), (64, 64, 64, 4), (7, 7, 7, 1), (1, 1, 1, 1)]
)
def test_tiles(n: int, h: int, block: int, tile: int) -> None:
    """Near the square root of one large block, and one number for small blocks, as measured."""
    assert operator.choose_tile(n, h, block) == tile


GOLDEN = """
    Reshape Reshape Shape Shape Div Add Range Unsqueeze Range Unsqueeze Mul Mod Cast Div Cast Mul Add Sin
    Unsqueeze Sin Unsqueeze Neg Concat Reshape Concat Reshape Transpose CastLike Range Equal Mul Equal Or Where
    Cast Div Unsqueeze Expand Reshape Mul CastLike Shape Shape Shape Mul Mul Reshape Reshape Concat Reshape
    Reshape Concat Add Squeeze Sub Add Div Range Reshape Cast BitwiseAnd Cast BitShift Cast Add BitShift
    BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift
    BitwiseXor Mul BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift
    BitwiseXor BitwiseXor Unsqueeze Cast Unsqueeze Cast Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul
    BitShift BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor Mul
    Add BitShift BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Range Cast Cast BitShift
    Sub Unsqueeze BitShift BitwiseAnd Cast Transpose Cast Mul Sub Reshape Reshape Slice CastLike Add Slice Slice
    Greater Squeeze If Reshape Transpose Reshape Mul Greater Squeeze If Reshape Transpose Reshape Shape Gather
    Mul Sub Range Sub Sub Range Mul Unsqueeze Unsqueeze Add Mod Gather Cast Gather MatMul CastLike Range
    Unsqueeze Unsqueeze Sub Sub Add Gather Shape Reshape Reshape Reshape Reshape Concat Reshape Gather CastLike
    Mul Reshape Reshape Reshape Reshape Concat Reshape Transpose Mul Mul Reshape Reshape Concat Reshape Shape
    Mul Shape Mul Mul Reshape Concat Reshape Reshape Concat Mul Reshape Reshape Concat Mul Reshape Reshape
    Concat Reshape Concat Reshape Concat Reshape MatMul Reshape Transpose Reshape MatMul Reshape Transpose
    Reshape MatMul Reshape Gather Greater Squeeze If Reshape Transpose Reshape Concat Reshape Add Concat Reshape
    Shape Gather Mul Sub Range Sub Sub Range Mul Unsqueeze Unsqueeze Add Mod Gather Cast Gather MatMul CastLike
    Range Unsqueeze Unsqueeze Sub Sub Add Gather Shape Reshape Reshape Reshape Reshape Concat Reshape Gather
    CastLike Mul Reshape Reshape Reshape Reshape Concat Reshape Transpose Mul Mul Reshape Reshape Concat Reshape
    Shape Mul Shape Mul Mul Reshape Concat Reshape Reshape Concat Mul Reshape Reshape Concat Mul Reshape Reshape
    Concat Reshape Concat Reshape Concat Concat Expand Greater Squeeze If Reshape Transpose Reshape Concat
    Reshape Concat Expand Greater Squeeze If Reshape Transpose Reshape Concat Reshape Cast Not CastLike CastLike
    CastLike CastLike Scan Reshape Transpose Concat Reshape Greater Squeeze If Reshape Transpose Concat Reshape
    Greater Squeeze If Reshape Transpose Concat Reshape Greater Squeeze If
"""


def test_the_operators_are_these() -> None:
    """In order, without constants and without what is inside If and Scan: change it on purpose."""
    check_operators(layer_model(make(6, 8), 6, leading=SEQUENCES), GOLDEN)


STEP = """
    Mul Reshape MatMul Reshape Transpose Reshape MatMul Reshape Transpose Reshape MatMul Reshape Add Split If If
    Split Mul Tanh Mul Add Tanh Mul Identity
"""


def test_the_operators_of_a_step_are_these() -> None:
    """They cost their microseconds at every step."""
    (function,) = layer_model(make(6, 8), 6, leading=SEQUENCES).functions.values()
    (scan,) = [node for node in function if node.op_type == "Scan"]
    assert [node.op_type for node in scan.attributes["body"].as_graph()] == STEP.split()


# ---- the comparisons can fail


@both
def test_swapped_gates_are_noticed(run: Any) -> None:
    lstm, x = make(6, 8), models.inputs(4, 2, 6, dtype=np.float32)
    model = layer_model(lstm, 6, leading=SEQUENCES)
    assert lstm.layers[0].bias is not None
    lstm.layers[0].bias.data = lstm.layers[0].bias.data[[0, 2, 1, 3]]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(model, x)[0], wanted(lstm, x)[0], nmse=1e-7, what="swapped")
