"""edgefc::QuantizedLinear: onnxruntime's MatMulNBits, or standard operators that the runtime folds to a dense weight.

"int8" is MatMulNBits with accuracy_level 4, which rounds each group of inputs to int8. It multiplies the packed codes
and keeps no dense weight. The runtime folds the Cast of the scales, and packs the codes as in a node of the graph.
"dequantized" gives the exact product, at the speed and with the memory of a dense layer.

accuracy_level 0 has no body. It is exact as well, but dequantises the whole weight in each run at 2 and 8 bits, which
takes 20 to 40 times as long as a dense product of one row, and at 4 bits is slower than a dense layer. Microseconds
for 768 inputs and 3072 outputs, 1 and 24 rows, one thread, AVX-512 VNNI, onnxruntime 1.31.1:

    bits, group     "int8"          accuracy_level 0    dense
    8, 128           39     609     5389    6825        121    1033
    4, 32            54     908      225    1408
    2, 32            84    1685     5227    6200

The rounding of the inputs has a normalised mean squared error of 2e-5 to 5e-5 in the output of one layer.

Letters: n inputs, m outputs, G groups, c bytes of the codes of a group.

Lowest versions of onnxruntime: 1.22 for 4 and 8 bits, 1.28 for 2 bits. 1.26 and 1.27 have the
operator for 2 bits, but compute other weights wrongly: edgefc/releases.py.
"""

import onnx_ir as ir

from edgefc.attributes import BITS, SIZE
from edgefc.export.building import packed
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, describe_linear, describe_storage
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.operator import Operator

_INT8_INPUTS = 4


def multiply(op: Body, x: ir.Value, codes: ir.Value, scales: ir.Value, bias: ir.Value) -> ir.Value:
    """x (..., n), codes (m, G, c), scales (m, G), bias (m,) -> (..., m), through MatMulNBits in float32."""
    sizes = {"K": "in_features", "N": "out_features", "bits": "bits", "block_size": "group"}
    attributes = {name: op.reference(own, name=name) for name, own in sizes.items()}
    given, steps, addend = (op.Cast(value, to=ir.DataType.FLOAT) for value in (x, scales, bias))
    inputs = (given, codes, steps, None, None, addend)
    y = op.onnxruntime("MatMulNBits", *inputs, **attributes, accuracy_level=_INT8_INPUTS)
    return op.CastLike(y, x)


def dequantize(op: Body, x: ir.Value, codes: ir.Value, scales: ir.Value, bias: ir.Value) -> ir.Value:
    """The same with a dense weight."""
    rows = op.first(packed.values(op, codes, scales), op.attribute("in_features"))
    weight = op.Transpose(rows, perm=[1, 0])
    return op.Add(op.MatMul(x, op.CastLike(weight, x)), op.CastLike(bias, x))


def describe(attributes: Attributes) -> Described:
    return describe_storage(describe_linear(attributes), attributes)


def compute(attributes: Attributes, x: Array, codes: Array, scales: Array, bias: Array) -> Array:
    weight = packed.reference(attributes, codes, scales)[:, : attributes["in_features"]]
    result: Array = x @ weight.T + bias
    return result


OPERATOR = Operator(
    "QuantizedLinear",
    "a dense layer with its weight in 2, 4 or 8 bits, and a scale for each group of inputs",
    inputs={
        "x": (..., "in_features"),
        "codes": ("out_features", "G", "c"),
        "scales": ("out_features", "G"),
        "bias": ("out_features",),
    },
    attributes={"in_features": SIZE, "out_features": SIZE, "bits": BITS, "group": SIZE},
    bodies={"int8": multiply, "dequantized": dequantize},
    describe=describe,
    reference=compute,
)
