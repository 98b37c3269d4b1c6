"""BilinearLSTM -> edgefc::BilinearLSTM, one node per layer of the stack."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import bilinear_lstm
from edgefc.export.build import function
from edgefc.export.described import Described
from edgefc.export.lowerings.bilinear import describe_factors
from edgefc.export.options import Options

NAME = "BilinearLSTM"
INPUTS = ("x", "left", "right", "left_recurrent", "right_recurrent", "bias", "h0", "c0")
OUTPUTS = ("y", "h_n", "c_n")
ATTRIBUTES = {
    **dict.fromkeys(("input_size", "hidden_size", "terms", "hard_sigmoid"), ir.AttributeType.INT),
    **dict.fromkeys(("in_factors", "out_factors"), ir.AttributeType.INTS),
}


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, bilinear_lstm.write, opset, OUTPUTS)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """Nothing to decide per node."""
    return {}


def describe(attributes: Mapping[str, Any]) -> Described:
    return describe_lstm(attributes, describe_factors(attributes))


def describe_lstm(attributes: Mapping[str, Any], detail: str) -> Described:
    """What a node stands for that takes the place of one layer of torch.nn.LSTM, which stores two biases."""
    n, h = int(attributes["input_size"]), int(attributes["hidden_size"])
    gates = ", hard sigmoid" if attributes["hard_sigmoid"] else ""
    return Described(shape=f"4 x {h} x ({n} + {h})", dense=4 * h * (n + h) + 8 * h, detail=detail + gates)
