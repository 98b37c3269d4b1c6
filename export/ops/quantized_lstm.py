"""edgefc::QuantizedLSTM in standard operators: the codes are expanded when the file is loaded, then LSTM.

onnxruntime's LSTM computes in float32 only, so other types are converted. It has the gates in the order i, o, f, g.

Letters: S steps, B batch, n inputs, h units.
"""

import onnx_ir as ir

from edgefc.attributes import BITS, SIZE
from edgefc.export.building import packed, reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_lstm, describe_storage
from edgefc.export.building.recurrent import LSTM_OUTPUTS
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator


def write(
    op: Body,
    x: ir.Value,
    codes: ir.Value,
    scales: ir.Value,
    codes_recurrent: ir.Value,
    scales_recurrent: ir.Value,
    bias: ir.Value,
    h0: ir.Value,
    c0: ir.Value,
) -> tuple[ir.Value, ...]:
    """x (S, B, n), codes (4 h, G, c), scales (4 h, G), the same for h inputs, bias (4, h), h0 and c0 (B, h) or (1, h)
    -> (S, B, h), (B, h), (B, h)."""
    n, h = op.attribute("input_size"), op.attribute("hidden_size")

    def gates(values: ir.Value) -> ir.Value:
        """(4 h, k) or (4, h), gates i, f, g, o, as (1, 4 h, k) or (1, 4 h), gates i, o, f, g."""
        apart = op.Reshape(values, op.Concat(op.const([4]), op.shape(h), op.const([-1]), axis=0))
        return op.Gather(apart, op.const([0, 3, 1, 2]), axis=0)

    def matrix(stored: ir.Value, steps: ir.Value, width: ir.Value) -> ir.Value:
        rows = op.first(packed.values(op, stored, steps), width)
        return op.Reshape(gates(rows), op.Concat(op.const([1, -1]), op.shape(width), axis=0))

    def state(values: ir.Value) -> ir.Value:
        rows = op.Expand(values, op.Concat(op.Shape(x, start=1, end=2), op.shape(h), axis=0))
        return op.Unsqueeze(op.Cast(rows, to=ir.DataType.FLOAT), op.const([0]))

    w, r = matrix(codes, scales, n), matrix(codes_recurrent, scales_recurrent, h)
    b = op.Reshape(gates(op.Cast(bias, to=ir.DataType.FLOAT)), op.const([1, -1]))
    both = op.Concat(b, op.Mul(b, op.const([0.0], "f")), axis=1)  # of the input and of the hidden state
    given = (op.Cast(x, to=ir.DataType.FLOAT), w, r, both, None, state(h0), state(c0))
    y, h_n, c_n = op.several("LSTM", *given, outputs=3, hidden_size=op.reference("hidden_size"))
    axis = op.const([1])
    return (
        op.CastLike(op.Squeeze(y, axis), x),
        op.CastLike(op.Squeeze(h_n, op.const([0])), x),
        op.CastLike(op.Squeeze(c_n, op.const([0])), x),
    )


def describe(attributes: Attributes) -> Described:
    return describe_storage(describe_lstm({**attributes, "hard_sigmoid": 0}, ""), attributes)


def compute(
    attributes: Attributes,
    x: Array,
    codes: Array,
    scales: Array,
    codes_recurrent: Array,
    scales_recurrent: Array,
    bias: Array,
    h0: Array,
    c0: Array,
) -> tuple[Array, ...]:
    n, h = attributes["input_size"], attributes["hidden_size"]
    w = packed.reference(attributes, codes, scales)[:, :n].reshape(4, h, n)
    r = packed.reference(attributes, codes_recurrent, scales_recurrent)[:, :h].reshape(4, h, h)
    return reference.lstm(x, w, r, bias, h0, c0, hard=False)


OPERATOR = Operator(
    "QuantizedLSTM",
    "one layer of an LSTM with its matrices in 2, 4 or 8 bits; outputs y, h_n, c_n",
    inputs={
        "x": ("S", "B", "input_size"),
        "codes": ("4h", "G", "c"),
        "scales": ("4h", "G"),
        "codes_recurrent": ("4h", "g", "c"),
        "scales_recurrent": ("4h", "g"),
        "bias": ("4", "hidden_size"),
        "h0": ("B", "hidden_size"),
        "c0": ("B", "hidden_size"),
    },
    attributes={"input_size": SIZE, "hidden_size": SIZE, "bits": BITS, "group": SIZE},
    bodies={"expanded": write},
    describe=describe,
    reference=compute,
    outputs=LSTM_OUTPUTS,
)
