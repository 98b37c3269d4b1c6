"""BilinearLSTM exported: the body on two evaluators against the steps in numpy, in float64, and its operators."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from edgefc import BilinearLSTM
from edgefc.errors import UsageError
from edgefc.export.lowerings import bilinear_lstm as lowering
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import lstm_models as models
from tests.support.layer_models import check_operators

ROUNDING, HALF_ROUNDING = 1e-12, 1e-5
SEQUENCES = ("steps", "batch")
CASES = [  # inputs, units, options
    pytest.param(1, 1, {}, id="one-number"),
    pytest.param(6, 8, {}, id="composite"),
    pytest.param(7, 5, {}, id="primes-padded"),
    pytest.param(5, 13, {"terms": 2}, id="primes-padded-two-terms"),
    pytest.param(12, 4, {"terms": 3}, id="three-terms"),
    pytest.param(6, 8, {"gates": "keras"}, id="hard-sigmoid"),
    pytest.param(7, 13, {"gates": "keras", "bias": False}, id="hard-sigmoid-padded-no-bias"),
]
both = pytest.mark.parametrize("run", [run_reference, run_onnxruntime])


def make(n: int, h: int, **options: Any) -> BilinearLSTM:
    return models.randomise(BilinearLSTM(n, h, **options))


def wanted(lstm: BilinearLSTM, x: Any, state: Any = None) -> Any:
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
    ("n", "h", "options"), [(384, 384, {}), (61, 768, {"gates": "keras"}), (768, 97, {"terms": 2})]
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


def test_states_go_in_and_come_out(tmp_path: Path) -> None:
    models.check_states_export(make(6, 8, num_layers=2, batch_first=True), tmp_path)


def test_packed_sequences_are_not_exported() -> None:
    said = (
        "BilinearLSTM cannot export packed sequences. Pass one padded tensor, and read the output of each sequence "
        "at its last step."
    )
    packed = torch.nn.utils.rnn.pack_sequence([torch.zeros(4, 6), torch.zeros(2, 6)])
    with mock.patch.object(torch.onnx, "is_in_onnx_export", return_value=True), pytest.raises(UsageError) as raised:
        make(6, 8)(packed)
    assert str(raised.value) == said


# ---- the empty ones


def test_reference_takes_an_empty_batch() -> None:
    answers = run_reference(layer_model(make(6, 8), 6, leading=SEQUENCES), models.inputs(3, 0, 6, dtype=np.float32))
    assert [answer.shape for answer in answers] == [(3, 0, 8), (0, 8), (0, 8)]


def test_onnxruntime_refuses_an_empty_batch() -> None:
    """onnxruntime's MatMul cannot broadcast a matrix on the left to a batch of 0.

    Known, and not ours: when this test fails, onnxruntime has learnt it, and this test can go.
    """
    with pytest.raises(Exception, match=r"MatMul node.*cannot broadcast on dim 0"):
        run_onnxruntime(layer_model(make(6, 8), 6, leading=SEQUENCES), models.inputs(3, 0, 6, dtype=np.float32))


@both
def test_no_steps_are_refused(run: Any) -> None:
    """As by torch.nn.LSTM."""
    with pytest.raises(Exception, match=r"(?i)scan|MatMul"):
        run(layer_model(make(6, 8), 6, leading=SEQUENCES), models.inputs(0, 2, 6, dtype=np.float32))


# ---- what the lowering says, and the operators


def test_nodes_are_described() -> None:
    attributes = {"input_size": 6, "hidden_size": 8, "in_factors": [2, 3], "out_factors": [2, 4], "terms": 2}
    said = lowering.describe({**attributes, "hard_sigmoid": 1})
    assert said.shape == "4 x 8 x (6 + 8)"
    assert said.dense == sum(p.numel() for p in torch.nn.LSTM(6, 8).parameters())
    assert said.detail == "2 x 3 to 2 x 4, 2 terms, hard sigmoid"


GOLDEN = """
    Shape Shape Shape Shape Mul Mul Squeeze Greater Shape Shape Squeeze Greater If Mul Concat Reshape Shape
    Shape Shape Mul Gather Transpose Concat Reshape Concat Gather Reshape Concat MatMul Reshape MatMul Gather
    Squeeze Greater If Concat Reshape Add Concat Reshape Squeeze Range Less Concat Reshape Reshape Concat Expand
    Squeeze Greater If Concat Reshape Reshape Concat Expand Squeeze Greater If Concat Reshape Shape Shape Shape
    Mul Gather Transpose Concat Reshape Concat Gather Reshape Concat CastLike Cast Not CastLike CastLike
    CastLike CastLike Scan Concat Reshape If Concat Reshape If Concat Reshape If
"""


def test_the_operators_are_these() -> None:
    """In order, without constants and without what is inside If and Scan: change it on purpose."""
    check_operators(layer_model(make(6, 8), 6, leading=SEQUENCES), GOLDEN)


STEP = """
    MatMul Reshape MatMul Add Split If If Split Mul Tanh Mul Add Tanh Mul If Identity
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
