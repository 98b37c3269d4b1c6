"""BilinearLSTM exported: its operators, and what is its own. test_lstms.py holds what both LSTMs answer."""

from unittest import mock

import numpy as np
import pytest
import torch

from edgefc import BilinearLSTM
from edgefc.errors import UsageError
from edgefc.export.ops import bilinear_lstm as operator
from edgefc.testing import layer_model, run_onnxruntime
from tests.support import lstm_models as models
from tests.support.layer_models import check_operators

SEQUENCES = ("steps", "batch")


def make(n: int, h: int) -> BilinearLSTM:
    return models.randomise(BilinearLSTM(n, h))


def test_packed_sequences_are_not_exported() -> None:
    said = (
        "BilinearLSTM cannot export packed sequences. Pass one padded tensor, and read the output of each sequence "
        "at its last step."
    )
    packed = torch.nn.utils.rnn.pack_sequence([torch.zeros(4, 6), torch.zeros(2, 6)])
    with mock.patch.object(torch.onnx, "is_in_onnx_export", return_value=True), pytest.raises(UsageError) as raised:
        make(6, 8)(packed)
    assert str(raised.value) == said


def test_onnxruntime_refuses_an_empty_batch() -> None:
    """onnxruntime's MatMul cannot broadcast a matrix on the left to a batch of 0.

    Known, and not ours: when this test fails, onnxruntime has learnt it, and this test can go.
    """
    with pytest.raises(Exception, match=r"MatMul node.*cannot broadcast on dim 0"):
        run_onnxruntime(layer_model(make(6, 8), 6, leading=SEQUENCES), models.inputs(3, 0, 6, dtype=np.float32))


def test_nodes_are_described() -> None:
    attributes = {"input_size": 6, "hidden_size": 8, "in_factors": [2, 3], "out_factors": [2, 4], "terms": 2}
    said = operator.describe({**attributes, "hard_sigmoid": 1})
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
