"""CirculantLSTM exported: its operators, and what is its own. test_lstms.py holds what both LSTMs answer."""

import numpy as np
import pytest
import torch

from edgefc import CirculantLSTM
from edgefc.export.ops import circulant_lstm as operator
from edgefc.testing import layer_model, run_onnxruntime
from tests.support import lstm_models as models
from tests.support.layer_models import check_operators

SEQUENCES = ("steps", "batch")


def make(n: int, h: int) -> CirculantLSTM:
    return models.randomise(CirculantLSTM(n, h))


def test_onnxruntime_takes_an_empty_batch() -> None:
    answers = run_onnxruntime(layer_model(make(6, 8), 6, leading=SEQUENCES), models.inputs(3, 0, 6, dtype=np.float32))
    assert [answer.shape for answer in answers] == [(3, 0, 8), (0, 8), (0, 8)]


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
