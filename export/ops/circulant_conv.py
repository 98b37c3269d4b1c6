"""edgefc::CirculantConv2d in standard operators: one small convolution per frequency of the channels.

    real DFT over each block of channels (1x1 Conv, one group per block; its weights include the signs)
    > Conv with one group per pair of frequencies, kh x kw, strides, pads, dilations
    > inverse real DFT (1x1 Conv, one group per block; its bias is the bias of the layer)

If prepare() estimates that it is cheaper (spectral = 0), the body is a Conv with the dense weight, which is folded when
the runtime loads the file. It has the speed and memory of a dense convolution, and a small file.

At each position of the kernel, the product with a circulant is a product of spectra. Zeros around the image are zeros
around its spectra. The real DFT turns b channels into G = ceil(b / 2) pairs. Pair 0 contains the two real frequencies 0
and b / 2 (zero instead of b / 2 if b is odd). Pair g > 0 contains the real and the imaginary part of frequency g. For
the spectrum of the kernel, a pair is a 2 x 2 matrix: diagonal for pair 0, a complex product for the others.

Multiply-adds: 2 G width q for each input pixel and 4 G p q kh kw + 2 G height p for each output pixel, with
width = min(n, b) and height = min(m, b). A dense convolution needs n m kh kw, which is about b / 2 times as many if the
kernel is large and b is small compared with n. Tables, folded when the runtime loads the file: 4 G p q kh kw values,
twice as many as the kernel, and 2 G (q width + p height) values of the transforms.

A Transpose between the convolutions moves the blocks if there are several.

Source: CirCNN, https://arxiv.org/abs/1708.08917, which uses the same method. The real pairs are our own.
Letters: n, m channels, b block, p x q blocks, G pairs, B batch.
"""

import math

import numpy as np
import onnx_ir as ir

from edgefc.attributes import FLAG, PADDING, PAIR, SEED, SIZE
from edgefc.export.building import reference
from edgefc.export.building.body import Body
from edgefc.export.building.described import Described, unsigned
from edgefc.export.building.reference import Array, Attributes
from edgefc.export.building.seeded import count, signs
from edgefc.export.operator import Operator

WINDOW = ("kernel_shape", "strides", "pads", "dilations")
"""Attributes of the operator that its middle Conv has too, with the same values."""


def write(op: Body, x: ir.Value, kernel: ir.Value, bias: ir.Value) -> ir.Value:
    """x (B, n, h, w), kernel (p, q, b, kh, kw), bias (m,) -> (B, m, h', w')."""
    n, m, b = (op.attribute(name) for name in ("in_channels", "out_channels", "block"))
    p, q, pairs = (op.attribute(name) for name in ("blocks_out", "blocks_in", "pairs"))  # each 1 if not spectral
    spectral = op.Equal(op.attribute("spectral"), op.const(1))
    width, height = op.Min(n, b), op.Min(m, b)
    wide, high = op.Mul(q, width), op.Mul(p, height)
    flips = signs(op, op.attribute("sign_seed"), op.Max(wide, n))
    basis = _basis(op, b, pairs)  # (2G, b)

    def forward(inner: Body) -> ir.Value:
        weight = _forward(inner, basis, inner.first(flips, wide), q, width, kernel)
        return inner.Conv(u, weight, group=_group("blocks_in"))

    def backward(inner: Body) -> ir.Value:
        whole_bias = inner.pad(bias, inner.Sub(high, m))
        return inner.Conv(v, _backward(inner, basis, p, height, b, kernel), whole_bias, group=_group("blocks_out"))

    u = op.when(op.Greater(wide, n), lambda inner: _pad_channels(inner, x, inner.Sub(wide, n)), x)
    u = op.when(spectral, forward, u)  # (B, q 2G, h, w)
    u = op.when(op.Greater(q, op.const(1)), lambda inner: _swap(inner, u, q, pairs), u)  # (B, G 2q, h, w)
    weight = op.when(op.Not(spectral), lambda inner: _dense(inner, kernel, inner.first(flips, n), n, m), kernel)
    weight = op.when(spectral, lambda inner: _products(inner, basis, kernel, pairs), weight)
    v = op.Conv(
        u,
        weight,
        op.when(spectral, lambda inner: _zeros(inner, weight), bias),
        group=_group("pairs"),
        **{name: ir.RefAttr(name, name, ir.AttributeType.INTS) for name in WINDOW},
    )  # (B, G 2p, h', w')
    v = op.when(op.Greater(p, op.const(1)), lambda inner: _swap(inner, v, pairs, p), v)  # (B, p 2G, h', w')
    y = op.when(spectral, backward, v)
    return op.when(op.Greater(high, m), lambda inner: _first_channels(inner, y, m), y)


def _group(name: str) -> ir.Attr:
    """The attribute `group` of a node, from an attribute of the function."""
    return ir.RefAttr("group", name, ir.AttributeType.INT)


def _basis(op: Body, b: ir.Value, pairs: ir.Value) -> ir.Value:
    """The rows of the real DFT, (2G, b) float64; angles are reduced exactly, as integers.

    Row 0 is cos(0). Row 1 is cos(pi j), or zeros if b is odd. Rows 2g and 2g + 1 are cos and -sin of 2 pi g j / b.
    """
    g = op.Unsqueeze(count(op, pairs), op.const([1]))  # (G, 1)
    first = op.Equal(g, op.const(0))
    frequency = op.Concat(g, op.Where(first, op.Div(b, op.const(2)), g), axis=1)  # (G, 2)
    steps = op.Mod(op.Mul(op.Unsqueeze(frequency, op.const([2])), count(op, b)), b)  # (G, 2, b)
    circle = op.Div(op.const(2 * math.pi, np.float64), op.Cast(b, to=ir.DataType.DOUBLE))
    angle = op.Mul(op.Cast(steps, to=ir.DataType.DOUBLE), circle)
    quarter, half = op.const([[math.pi / 2]], np.float64), op.const([[math.pi]], np.float64)
    second = op.Where(first, quarter, half)  # sin(a + pi / 2) = cos(a), sin(a + pi) = -sin(a)
    turn = op.Concat(op.Expand(quarter, op.Shape(g)), second, axis=1)
    rows = op.Sin(op.Add(angle, op.Unsqueeze(turn, op.const([2]))))
    odd = op.And(first, op.Equal(op.Mod(b, op.const(2)), op.const(1)))
    absent = op.Unsqueeze(op.And(odd, op.const([[False, True]], np.bool_)), op.const([2]))  # (G, 2, 1)
    return op.Reshape(op.Where(absent, op.const(0.0, np.float64), rows), op.shape(-1, b))


def _forward(op: Body, basis: ir.Value, flips: ir.Value, q: ir.Value, width: ir.Value, kernel: ir.Value) -> ir.Value:
    """The transform of every block, including the signs: (q 2G, width, 1, 1)."""
    flips = op.Reshape(op.Cast(flips, to=ir.DataType.DOUBLE), op.shape(q, 1, width))
    weight = op.Mul(op.first(basis, width), flips)  # (q, 2G, width)
    return op.CastLike(op.Reshape(weight, op.shape(-1, width, 1, 1)), kernel)


def _backward(op: Body, basis: ir.Value, p: ir.Value, height: ir.Value, b: ir.Value, kernel: ir.Value) -> ir.Value:
    """The inverse transform of every block: (p height, 2G, 1, 1). Pair 0 has the factor 1, the others have 2."""
    rows = op.Unsqueeze(count(op, op.Gather(op.Shape(basis), op.const(0))), op.const([1]))  # (2G, 1)
    times = op.Where(op.Less(rows, op.const(2)), op.const(1.0, np.float64), op.const(2.0, np.float64))
    share = op.Div(times, op.Cast(b, to=ir.DataType.DOUBLE))
    weight = op.Transpose(op.Mul(op.first(basis, height), share), perm=[1, 0])  # (height, 2G)
    weight = op.Expand(weight, op.shape(p, 1, 1))
    weight = op.Reshape(weight, op.Concat(op.shape(op.Mul(p, height), -1), op.const([1, 1]), axis=0))
    return op.CastLike(weight, kernel)


def _products(op: Body, basis: ir.Value, kernel: ir.Value, pairs: ir.Value) -> ir.Value:
    """The kernel's spectrum as a 2 x 2 matrix for each pair, blocks and position: (G p 2, q 2, kh, kw)."""
    p, q, b, position = (op.Shape(kernel, start=s, end=e) for s, e in ((0, 1), (1, 2), (2, 3), (3, 5)))
    flat = op.Reshape(op.Cast(kernel, to=ir.DataType.DOUBLE), op.Concat(p, q, b, op.const([-1]), axis=0))
    spectrum = op.MatMul(basis, flat)  # (p, q, 2G, kh kw)
    spectrum = op.Reshape(spectrum, op.Concat(p, q, op.shape(pairs, 2, -1), axis=0))  # (p, q, G, 2, kh kw)
    real = op.Mul(op.Gather(spectrum, op.const([0, 0, 1, 1]), axis=3), _four(op, 1, 0, 0, 1))  # out 0, out 1
    whole = op.Mul(op.Gather(spectrum, op.const([0, 1, 1, 0]), axis=3), _four(op, 1, -1, 1, 1))
    first = op.Equal(op.Reshape(count(op, pairs), op.const([-1, 1, 1])), op.const(0))
    matrices = op.CastLike(op.Where(first, real, whole), kernel)  # (p, q, G, 4, kh kw)
    matrices = op.Reshape(matrices, op.Concat(p, q, op.shape(pairs, 2, 2, -1), axis=0))
    matrices = op.Transpose(matrices, perm=[2, 0, 3, 1, 4, 5])  # (G, p, 2, q, 2, kh kw)
    return op.Reshape(matrices, op.Concat(op.const([-1]), op.Mul(q, op.const([2])), position, axis=0))


def _dense(op: Body, kernel: ir.Value, flips: ir.Value, n: ir.Value, m: ir.Value) -> ir.Value:
    """The weight of the dense convolution: (m, n, kh, kw)."""
    index = count(op, op.Gather(op.Shape(kernel), op.const(2)))
    index = op.Sub(op.Unsqueeze(index, op.const([1])), index)  # i - j; negative values count from the end
    blocks = op.Transpose(op.Gather(kernel, index, axis=2), perm=[0, 2, 1, 3, 4, 5])  # (p, b, q, b, kh, kw)
    sizes = op.Shape(blocks)
    rows, columns = (op.ReduceProd(op.Slice(sizes, op.const([s]), op.const([s + 2]))) for s in (0, 2))
    position = op.Slice(sizes, op.const([4]), op.const([6]))
    weight = op.Reshape(blocks, op.Concat(rows, columns, position, axis=0))
    weight = op.Slice(weight, op.const([0, 0]), op.shape(m, n))
    return op.Mul(weight, op.CastLike(op.Reshape(flips, op.const([-1, 1, 1])), kernel))


def _zeros(op: Body, weight: ir.Value) -> ir.Value:
    """A bias of zeros for a convolution with that weight."""
    return op.CastLike(op.ConstantOfShape(op.Shape(weight, end=1)), weight)


def _four(op: Body, *values: int) -> ir.Value:
    return op.const(np.reshape(values, (4, 1)), np.float64)


def _swap(op: Body, u: ir.Value, outer: ir.Value, inner: ir.Value) -> ir.Value:
    """Channels (outer, inner, 2) -> (inner, outer, 2)."""
    image = op.Shape(u, start=2)
    runs = op.Reshape(u, op.shape(0, outer, inner, -1))
    return op.Reshape(op.Transpose(runs, perm=[0, 2, 1, 3]), op.Concat(op.const([0, -1]), image, axis=0))


def _pad_channels(op: Body, x: ir.Value, missing: ir.Value) -> ir.Value:
    return op.Pad(x, op.shape(0, missing), None, op.const([1]))


def _first_channels(op: Body, y: ir.Value, m: ir.Value) -> ir.Value:
    return op.Slice(y, op.const([0]), op.shape(m), op.const([1]))


_VECTOR, _MOVE = 16, 44


def prepare(attributes: Attributes) -> dict[str, int]:
    """The attributes that the exporter adds to a node: the form, and the number of groups of each convolution."""
    n, m, b = (int(attributes[name]) for name in ("in_channels", "out_channels", "block"))
    kernel, stride = math.prod(attributes["kernel_shape"]), math.prod(attributes["strides"])
    if _spectral_cost(n, m, b, kernel, stride) >= n * m * kernel:
        return {"spectral": 0, "blocks_in": 1, "blocks_out": 1, "pairs": 1}
    return {"spectral": 1, "blocks_in": math.ceil(n / b), "blocks_out": math.ceil(m / b), "pairs": math.ceil(b / 2)}


def describe(attributes: Attributes) -> Described:
    n, m = int(attributes["in_channels"]), int(attributes["out_channels"])
    height, width = (int(size) for size in attributes["kernel_shape"])
    seed = unsigned(attributes["sign_seed"])
    return Described(
        shape=f"{m} x {n} x {height} x {width}",
        dense=m * n * height * width + m,
        detail=f"block {attributes['block']}, signs from seed {seed}",
    )


def _spectral_cost(n: int, m: int, b: int, kernel: int, stride: int) -> float:
    """The cost of the spectral form for one output pixel, in multiply-adds of a dense convolution.

    The convolutions of onnxruntime compute 16 channels of a group at a time, so smaller groups cost as much as 16.
    Moving a channel costs about 44. Both values come from measurements on one processor: tests/bench/circulant_conv.py.
    """
    p, q, pairs = math.ceil(m / b), math.ceil(n / b), math.ceil(b / 2)
    transforms = 2 * pairs * (stride * q * min(n, b) + p * min(m, b))
    products = 4 * pairs * p * q * kernel * max(1, _VECTOR / (2 * min(p, q)))
    moves = 2 * pairs * ((stride * q if q > 1 else 0) + (p if p > 1 else 0))
    return transforms + products + _MOVE * moves


def compute(attributes: Attributes, x: Array, kernel: Array, bias: Array) -> Array:
    n, m = attributes["in_channels"], attributes["out_channels"]
    weight = reference.circulants(np.moveaxis(kernel, (3, 4), (0, 1)), m, n) * reference.signs(
        attributes["sign_seed"], n
    )
    weight = np.moveaxis(weight, (0, 1), (2, 3))
    strides, pads, dilations = (attributes[name] for name in ("strides", "pads", "dilations"))
    return reference.convolve(x, weight, strides, pads, dilations) + bias[:, None, None]


OPERATOR = Operator(
    "CirculantConv2d",
    "CirculantLinear over the channels, at each position of the kernel",
    inputs={
        "x": ("B", "in_channels", "h", "w"),
        "kernel": ("p", "q", "block", "kh", "kw"),
        "bias": ("out_channels",),
    },
    attributes={
        "in_channels": SIZE,
        "out_channels": SIZE,
        "block": SIZE,
        "sign_seed": SEED,
        "spectral": FLAG,
        "blocks_in": SIZE,
        "blocks_out": SIZE,
        "pairs": SIZE,
        "kernel_shape": PAIR,
        "strides": PAIR,
        "pads": PADDING,
        "dilations": PAIR,
    },
    bodies={"spectra": write},
    prepare=prepare,
    describe=describe,
    reference=compute,
)
