"""Element-wise functions in ONNX operators, chosen by their numbers in edgefc.layers.common.facts."""

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgefc.export.building.body import Body
from edgefc.layers.common.facts import ACTIVATIONS

Write = Callable[[Body, ir.Value], ir.Value]


def activate(op: Body, code: ir.Value, x: ir.Value) -> ir.Value:
    """The function with number `code`, an attribute, of x.

    It writes a sequence of Ifs, one for each function. The runtime removes all but one when it loads the file.
    """
    for number, name in enumerate(ACTIVATIONS):
        if name != "identity":
            x = _if(op, op.Equal(code, op.const(number)), _WRITE[name], x)
    return x


def _if(op: Body, condition: ir.Value, write: Write, x: ir.Value) -> ir.Value:
    return op.when(condition, lambda inner: write(inner, x), x)


def _number(op: Body, value: float, like: ir.Value) -> ir.Value:
    return op.CastLike(op.const(value, np.float64), like)


def _gelu(op: Body, x: ir.Value) -> ir.Value:
    inner = op.Add(op.Erf(op.Div(x, _number(op, math.sqrt(2), x))), _number(op, 1.0, x))
    return op.Mul(op.Mul(x, inner), _number(op, 0.5, x))


def _gelu_tanh(op: Body, x: ir.Value) -> ir.Value:
    cube = op.Mul(op.Mul(op.Mul(x, x), x), _number(op, 0.044715, x))
    tanh = op.Tanh(op.Mul(op.Add(x, cube), _number(op, math.sqrt(2 / math.pi), x)))
    return op.Mul(op.Mul(x, op.Add(tanh, _number(op, 1.0, x))), _number(op, 0.5, x))


_WRITE: dict[str, Write] = {
    "relu": lambda op, x: op.Relu(x),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": lambda op, x: op.Mul(x, op.Sigmoid(x)),
    "tanh": lambda op, x: op.Tanh(x),
    "sigmoid": lambda op, x: op.Sigmoid(x),
    "softplus": lambda op, x: op.Softplus(x),
    "sin": lambda op, x: op.Sin(x),
}
