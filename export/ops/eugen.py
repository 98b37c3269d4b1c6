"""edgefc::EUGenLinear and edgefc::EUGenStoredLinear in standard operators.

    x > [x ; 1] > G > + |x| times G's last column > Hadamard products > Phi > weight, bias

One Gemm computes all projections. The norm is not appended to x, because that would copy x. Instead it is a second Gemm
with one column. Shared projections need running products. With z = z_1 ... z_k side by side, the step

    z[j] <- z[j] z[j - s] for every j >= s,     s = 1, 2, 4, 8, 16

computes all of them, so orders up to 32 need five Ifs. The runtime removes those that are not needed when it loads the
file. If each block has its own projections, they are first arranged in a k x k table (row j, column i, ones where
j > i), and the same steps run over its rows. At order 1 all these steps are removed.

The seeded G is folded at load, as in the resident body of PRP, but in one piece, because it has m k rows, not one
row per output. edgefc/layers/eugen/linear.py names the source of the layer.

Letters: d inputs, m features, k order, P projections, e entries after the input, B rows of inputs.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir

from edgefc.attributes import ACTIVATION, BITS, FLAG, LEVELS, MAX_ORDER, ORDER, SEED, SIZE, TEXT
from edgefc.export.building import reference
from edgefc.export.building.activations import activate
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, activation_name, describe_linear, unsigned
from edgefc.export.building.projection import table
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import ceil_div, count, cut, keys, words
from edgefc.export.operator import Operator

STEPS = [2**i for i in range(MAX_ORDER.bit_length() - 1)]
END = 2**31 - 1
_DOUBLE = ir.DataType.DOUBLE


def seeded(op: Body, x: ir.Value, weight: ir.Value, bias: ir.Value) -> ir.Value:
    """G from the seed. x (..., d), weight (out, k m), bias (out,) -> (..., out)."""
    return _write(op, x, _projection(op, weight), weight, bias)


def stored(op: Body, x: ir.Value, projection: ir.Value, weight: ir.Value, bias: ir.Value) -> ir.Value:
    """Like seeded(), with G as an input, (P m, d + e)."""
    return _write(op, x, projection, weight, bias)


def _write(op: Body, x: ir.Value, projection: ir.Value, weight: ir.Value, bias: ir.Value) -> ir.Value:
    d, one = op.attribute("in_features"), op.attribute("one")
    u = op.Reshape(x, op.shape(-1, d))
    u = op.when(_is(op, one, 1), lambda inner: _with_one(inner, u), u)  # (B, d + one)
    inner_columns = op.Slice(projection, op.const([0]), op.shape(op.Add(d, one)), op.const([1]))
    h = op.Gemm(u, inner_columns, transB=1)  # (B, P m)

    def with_norm(inner: Body) -> ir.Value:
        """Adds the norm, computed from the mean square of a row: onnxruntime's ReduceL2 takes three times as long."""
        column = inner.Slice(projection, inner.const([-1]), inner.const([END]), inner.const([1]))
        column = inner.Mul(column, inner.CastLike(inner.Sqrt(inner.Cast(inner.Add(d, one), to=_DOUBLE)), column))
        square = inner.ReduceMean(inner.Mul(u, u), inner.const([-1]))
        square = inner.Reshape(square, inner.const([-1, 1]))  # onnxruntime does not reduce the axis of an empty batch
        return inner.Gemm(inner.Sqrt(square), column, h, transB=1)

    h = op.when(_is(op, op.attribute("norm"), 1), with_norm, h)
    h = activate(op, op.attribute("activation"), _products(op, h))  # (B, k m)
    y = op.Gemm(h, weight, bias, transB=1)
    return op.Reshape(y, op.Concat(op.Shape(x, end=-1), op.shape(op.attribute("out_features")), axis=0))


def _with_one(op: Body, x: ir.Value) -> ir.Value:
    ones = op.Expand(op.CastLike(op.const([[1.0]], np.float32), x), op.Concat(op.Shape(x, end=1), op.shape(1), axis=0))
    return op.Concat(x, ones, axis=1)


def _products(op: Body, z: ir.Value) -> ir.Value:
    """(B, P m) -> (B, k m): block i is the product of its i projections."""
    m, k, shared = (op.attribute(name) for name in ("features", "order", "shared"))
    apart = op.And(_is(op, shared, 0), op.Greater(k, op.const(1)))
    wide = op.Mul(m, op.Where(_is(op, shared, 0), k, op.const(1)))  # columns of one j
    z = _when(op, apart, lambda inner, z: _side_by_side(inner, z, m, k), z)
    for step in STEPS:
        far = op.Mul(wide, op.const(step))
        z = _when(op, op.Greater(k, op.const(step)), partial(_step, far=far), z)
    return _when(op, apart, lambda inner, z: _columns(inner, z, inner.Neg(wide), inner.const(END)), z)


def _step(op: Body, z: ir.Value, *, far: ir.Value) -> ir.Value:
    """Each column times the column `far` before it. The first `far` columns do not change."""
    end = op.const(END)
    later = op.Mul(_columns(op, z, far, end), _columns(op, z, op.const(0), op.Neg(far)))
    return op.Concat(_columns(op, z, op.const(0), far), later, axis=1)


def _side_by_side(op: Body, z: ir.Value, m: ir.Value, k: ir.Value) -> ir.Value:
    """(B, k (k + 1) / 2 m), block by block -> (B, k k m): for each j the j-th projection of every block, or ones."""
    z = op.Reshape(z, op.shape(op.const(-1), op.Div(op.Mul(k, op.Add(k, op.const(1))), op.const(2)), m))
    one = op.Expand(
        op.CastLike(op.const([[[1.0]]], np.float32), z), op.Concat(op.Shape(z, end=1), op.shape(1, m), axis=0)
    )
    j, i = op.Unsqueeze(count(op, k), op.const([1])), op.Unsqueeze(count(op, k), op.const([0]))
    first = op.Div(op.Mul(i, op.Add(i, op.const(1))), op.const(2))  # of block i, counted from 0
    at = op.Where(op.Greater(j, i), op.const(-1), op.Add(first, j))  # (k, k)
    z = op.Gather(op.Concat(z, one, axis=1), op.Reshape(at, op.const([-1])), axis=1)
    return op.Reshape(z, op.shape(op.const(-1), op.Mul(op.Mul(k, k), m)))


def _projection(op: Body, like: ir.Value) -> ir.Value:
    """G from the seed, (P m, d + e), entries of variance 1 / (d + one), halved with the norm, as `like`."""
    d, m, k, bits = (op.attribute(name) for name in ("in_features", "features", "order", "bits"))
    one, norm = op.attribute("one"), op.attribute("norm")
    several = op.Div(op.Mul(k, op.Add(k, op.const(1))), op.const(2))
    rows = op.Mul(m, op.Where(_is(op, op.attribute("shared"), 1), k, several))
    width = op.Add(op.Add(d, one), norm)
    columns = count(op, ceil_div(op, op.Mul(width, bits), op.const(32)))
    piece = op.const(8)  # a table for 16 bits would be larger than G in most layers
    pieces = cut(
        op, words(op, keys(op, op.attribute("seed")), count(op, rows), columns), piece, op.const(32), lean=True
    )
    levels = op.CastLike(table(op, piece, bits, op.attribute("codebook", list)), like)
    matrix = op.Reshape(op.Gather(levels, pieces), op.shape(rows, -1))
    squares = op.Mul(op.Add(d, one), op.Add(norm, op.const(1)))
    root = op.CastLike(op.Sqrt(op.Cast(squares, to=_DOUBLE)), like)
    return op.Div(op.first(matrix, width), root)


def _columns(op: Body, z: ir.Value, start: ir.Value, stop: ir.Value) -> ir.Value:
    return op.Slice(z, op.shape(start), op.shape(stop), op.const([1]))


def _is(op: Body, flag: ir.Value, value: int) -> ir.Value:
    return op.Equal(flag, op.const(value))


def _when(op: Body, condition: ir.Value, then: Callable[[Body, ir.Value], ir.Value], z: ir.Value) -> ir.Value:
    return op.when(condition, lambda inner: then(inner, z), z)


SIZES = {
    "in_features": SIZE,
    "out_features": SIZE,
    "features": SIZE,
    "order": ORDER,
    "shared": FLAG,
    "norm": FLAG,
    "one": FLAG,
    "activation": ACTIVATION,
}
"""The attributes of both operators of this layer."""


def describe(attributes: Attributes) -> Described:
    drawn = f"{attributes['distribution']}, seed {unsigned(attributes['seed'])}"
    return describe_linear(attributes, f"{what(attributes)}, {drawn}")


def what(attributes: Attributes) -> str:
    """The description of a node of either operator of this layer."""
    activation = activation_name(attributes)
    return f"{attributes['features']} features of order {attributes['order']}, {activation}"


def compute(attributes: Attributes, x: Array, weight: Array, bias: Array) -> Array:
    several = attributes["order"] if attributes["shared"] else math.comb(attributes["order"] + 1, 2)
    taken = attributes["in_features"] + attributes["one"]
    matrix = reference.seeded(attributes, several * attributes["features"], taken + attributes["norm"])
    projection = matrix / math.sqrt(taken * (1 + attributes["norm"]))
    return compute_stored(attributes, x, projection, weight, bias)


def compute_stored(attributes: Attributes, x: Array, projection: Array, weight: Array, bias: Array) -> Array:
    features, order = attributes["features"], attributes["order"]
    u = np.concatenate([x, np.ones((*x.shape[:-1], attributes["one"]))], axis=-1)
    z = u @ projection[:, : u.shape[-1]].T
    if attributes["norm"]:
        z = z + np.linalg.norm(u, axis=-1, keepdims=True) * projection[:, -1]
    z = z.reshape(*x.shape[:-1], -1, features)
    first = [0 if attributes["shared"] else i * (i + 1) // 2 for i in range(order)]
    blocks = [z[..., start : start + i + 1, :].prod(-2) for i, start in enumerate(first)]
    result: Array = reference.activation(attributes, np.concatenate(blocks, axis=-1)) @ weight.T + bias
    return result


OPERATOR = Operator(
    "EUGenLinear",
    "random features of x, multiplied up to the order, times the weight",
    inputs={"x": (..., "in_features"), "weight": ("out_features", "features * order"), "bias": ("out_features",)},
    attributes={**SIZES, "seed": SEED, "bits": BITS, "distribution": TEXT, "codebook": LEVELS},
    bodies={"projections": seeded},
    describe=describe,
    reference=compute,
)
