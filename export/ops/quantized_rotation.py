"""edgefc::HadamardRotation in standard operators: two small matrix products for each block.

    signs / sqrt(block) > pad > H_low > transpose > H_high > transpose

H of length block = high * low is kron(H_high, H_low). The runtime folds the signs and both matrices. Two products of 8
and 16 with transposes between them are faster than one of 128 from a few rows on: 768 features take 9, 31 and 70
microseconds for 1, 24 and 64 rows; one product takes 8, 65 and 134 (one thread, AVX-512, onnxruntime 1.31.1).
"""

import math

import numpy as np
import onnx_ir as ir

from edgefc.attributes import SEED, SIZE
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, unsigned
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import signs
from edgefc.export.operator import Operator
from edgefc.export.ops.prp_hadamard import hadamard
from edgefc.layers.common.facts import hadamard_sides


def write(op: Body, x: ir.Value) -> ir.Value:
    """x (..., n) -> (..., width)."""
    n, width, high, low = (op.attribute(name) for name in ("in_features", "out_features", "high", "low"))
    root = op.Sqrt(op.Cast(op.Mul(high, low), to=ir.DataType.DOUBLE))
    factors = op.Div(op.Cast(signs(op, op.attribute("seed"), n), to=ir.DataType.DOUBLE), root)
    u = op.Mul(x, op.CastLike(factors, x))
    u = op.when(op.Greater(width, n), lambda inner: inner.pad(u, inner.Sub(width, n)), u)
    u = op.MatMul(op.Reshape(u, op.shape(-1, low)), hadamard(op, low, x))  # (B high, low)
    u = op.Transpose(op.Reshape(u, op.shape(-1, high, low)), perm=[0, 2, 1])
    u = op.MatMul(op.Reshape(u, op.shape(-1, high)), hadamard(op, high, x))  # (B low, high)
    u = op.Transpose(op.Reshape(u, op.shape(-1, low, high)), perm=[0, 2, 1])
    return op.Reshape(u, op.Concat(op.Shape(x, end=-1), op.shape(width), axis=0))


def prepare(attributes: Attributes) -> dict[str, int]:
    """The attributes that the exporter adds to a node: the lengths of the two factors of a block."""
    high, low = hadamard_sides(attributes["block"])
    return {"high": high, "low": low}


def describe(attributes: Attributes) -> Described:
    n, width = attributes["in_features"], attributes["out_features"]
    detail = f"blocks of {attributes['block']}, seed {unsigned(attributes['seed'])}"
    return Described(shape=f"{width} x {n}", dense=0, detail=detail)


def compute(attributes: Attributes, x: Array) -> Array:
    n, width, block = (attributes[name] for name in ("in_features", "out_features", "block"))
    signed = np.pad(x * reference.signs(attributes["seed"], n), [(0, 0)] * (x.ndim - 1) + [(0, width - n)])
    blocks = signed.reshape(*x.shape[:-1], -1, block) @ reference.hadamard(block) / math.sqrt(block)
    result: Array = blocks.reshape(*x.shape[:-1], width)
    return result


OPERATOR = Operator(
    "HadamardRotation",
    "seeded signs, then Walsh-Hadamard transforms of blocks: the rotation of the inputs of a quantised layer",
    inputs={"x": (..., "in_features")},
    attributes={"in_features": SIZE, "out_features": SIZE, "block": SIZE, "seed": SEED, "high": SIZE, "low": SIZE},
    bodies={"products": write},
    prepare=prepare,
    describe=describe,
    reference=compute,
)
