"""edgefc::BilinearLSTM in standard operators: small products on both sides, then the steps.

    pad > left > right > bias > Scan of (left > right > gates) > cut

The left product is first, as in the code of the authors. It is computed for the input of all steps at once, and for the
hidden state in each step. The first product computes all gates. The second product also sums over the terms.

Letters: S steps, B batch, n inputs, d1 d2 >= n, h units, u1 u2 >= h, T terms.
"""

import onnx_ir as ir

from edgefc.attributes import FLAG, PAIR, SIZE
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_factors, describe_lstm
from edgefc.export.building.recurrent import LSTM_OUTPUTS, LSTM_STATES, gates_apart, recurrence
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import count
from edgefc.export.operator import Operator


def write(
    op: Body,
    x: ir.Value,
    left: ir.Value,
    right: ir.Value,
    left_recurrent: ir.Value,
    right_recurrent: ir.Value,
    bias: ir.Value,
    h0: ir.Value,
    c0: ir.Value,
) -> tuple[ir.Value, ...]:
    """x (S, B, n), left (4, T, d1, u1), right (4, T, d2, u2), left_recurrent (4, T, u1, u1), right_recurrent
    (4, T, u2, u2), bias (4, h), h0 and c0 (B, h) or (1, h) -> (S, B, h), (B, h), (B, h)."""
    n, h = op.attribute("input_size"), op.attribute("hidden_size")
    d1, d2, u1, u2 = (op.Shape(factor, start=axis, end=axis + 1) for axis in (2, 3) for factor in (left, right))
    taken, units = op.Mul(d1, d2), op.Mul(u1, u2)
    more = op.Greater(op.Squeeze(units), h)
    steps, batch = op.Shape(x, end=1), op.Shape(x, start=1, end=2)

    def widened(values: ir.Value, size: ir.Value, whole: ir.Value) -> ir.Value:
        return op.when(
            op.Greater(op.Squeeze(whole), size), lambda inner: inner.pad(values, inner.Sub(whole, size)), values
        )

    def first_state(values: ir.Value) -> ir.Value:
        values = widened(op.Expand(values, op.Concat(batch, op.shape(h), axis=0)), h, units)
        return op.Reshape(values, op.Concat(batch, op.const([1]), u1, u2, axis=0), allowzero=1)

    def cut(values: ir.Value, *leading: ir.Value) -> ir.Value:
        values = op.Reshape(values, op.Concat(*leading, units, axis=0), allowzero=1)
        return op.when(more, lambda inner: inner.first(values, h), values)

    rows = op.Reshape(widened(x, n, taken), op.Concat(op.Mul(steps, batch), d1, d2, axis=0), allowzero=1)
    z = _Product(op, left, right, u1)(op, rows)  # (S B, 4, u1, u2)
    b = op.Reshape(widened(gates_apart(op, bias), h, units), op.Concat(op.const([4]), u1, u2, axis=0))
    z = op.Reshape(op.Add(z, b), op.Concat(steps, batch, op.const([4]), u1, u2, axis=0), allowzero=1)
    used = op.Reshape(op.Less(count(op, op.Squeeze(units)), h), op.Concat(u1, u2, axis=0))
    states, product = (first_state(h0), first_state(c0)), _Product(op, left_recurrent, right_recurrent, u1)
    y, h_n, c_n = recurrence(op, z, states, product, (more, op.CastLike(used, bias)))
    return cut(y, steps, batch), cut(h_n, batch), cut(c_n, batch)


class _Product:
    """sum_t L_t^T X R_t for every gate: X (., d1, d2) or (., 1, d1, d2) -> (., 4, u1, u2)."""

    def __init__(self, op: Body, left: ir.Value, right: ir.Value, u1: ir.Value) -> None:
        terms, d1, d2 = op.Shape(left, start=1, end=2), op.Shape(left, start=2, end=3), op.Shape(right, start=2, end=3)
        width = op.Mul(terms, d2)
        rows = op.Transpose(gates_apart(op, left), perm=[0, 3, 1, 2])  # (4, u1, T, d1)
        self._left = op.Reshape(rows, op.Concat(op.const([-1]), d1, axis=0))  # (4 u1 T, d1)
        columns = op.Concat(op.const([4]), width, op.const([-1]), axis=0)
        self._right = op.Reshape(gates_apart(op, right), columns)  # (4, T d2, u2)
        self._between = op.Concat(op.const([-1, 4]), u1, width, axis=0)

    def __call__(self, op: Body, x: ir.Value) -> ir.Value:
        return op.MatMul(op.Reshape(op.MatMul(self._left, x), self._between), self._right)


def describe(attributes: Attributes) -> Described:
    return describe_lstm(attributes, describe_factors(attributes))


def compute(
    attributes: Attributes,
    x: Array,
    left: Array,
    right: Array,
    left_recurrent: Array,
    right_recurrent: Array,
    bias: Array,
    h0: Array,
    c0: Array,
) -> tuple[Array, ...]:
    n, h = attributes["input_size"], attributes["hidden_size"]
    w = reference.kronecker_sum(left, right, n, h)
    r = reference.kronecker_sum(left_recurrent, right_recurrent, h, h)
    return reference.lstm(x, w, r, bias, h0, c0, hard=bool(attributes["hard_sigmoid"]))


OPERATOR = Operator(
    "BilinearLSTM",
    "one layer of an LSTM; outputs y, h_n, c_n",
    inputs={
        "x": ("S", "B", "input_size"),
        "left": ("4", "terms", "d1", "u1"),
        "right": ("4", "terms", "d2", "u2"),
        "left_recurrent": ("4", "terms", "u1", "u1"),
        "right_recurrent": ("4", "terms", "u2", "u2"),
        **LSTM_STATES,
    },
    attributes={
        "input_size": SIZE,
        "hidden_size": SIZE,
        "terms": SIZE,
        "hard_sigmoid": FLAG,
        "in_factors": PAIR,
        "out_factors": PAIR,
    },
    outputs=LSTM_OUTPUTS,
    bodies={"scan": write},
    describe=describe,
    reference=compute,
)
