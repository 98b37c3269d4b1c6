"""CirculantLinear -> edgefc::CirculantLinear."""

import math
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import circulant_dft, circulant_matmul
from edgefc.export.build import function
from edgefc.export.described import Described, describe_linear, unsigned
from edgefc.export.options import Options

NAME = "CirculantLinear"
INPUTS = ("x", "kernel", "bias")
ATTRIBUTES = dict.fromkeys(
    ("in_features", "out_features", "block", "sign_seed", "tile", "period"), ir.AttributeType.INT
)
_LONGEST_TILE = 256
_VECTOR = 32  # columns that onnxruntime's float32 matrix product takes at a time


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    bodies = {"matmul": circulant_matmul.write, "dft": circulant_dft.write}
    return function(NAME, INPUTS, ATTRIBUTES, bodies[options.circulant], opset)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """What the lowering decides for one node: how the matmul body cuts the circulant."""
    tile, period = split(*(attributes[name] for name in ("in_features", "out_features", "block")))
    return {"tile": tile, "period": period}


def describe(attributes: Mapping[str, Any]) -> Described:
    seed = unsigned(attributes["sign_seed"])
    return describe_linear(attributes, f"block {attributes['block']}, signs from seed {seed}")


def split(n: int, m: int, b: int) -> tuple[int, int]:
    """The tile and period of the matmul body that cost least, by the count in _cost().

    Several blocks need tile * period = b. A single one may also be cut into tiles that do not divide it, with a
    period long enough that nothing wraps around: the way out for primes.
    """
    several = n > b or m > b
    candidates = []
    for tile in range(1, min(b, _LONGEST_TILE) + 1):
        tiles_in, tiles_out = math.ceil(min(n, b) / tile), math.ceil(min(m, b) / tile)
        if b % tile == 0:
            candidates.append((tile, b // tile))
        elif not several:
            candidates.append((tile, tiles_in + tiles_out - 1))
    return min(candidates, key=lambda cut: _cost(n, m, b, *cut))


def _cost(n: int, m: int, b: int, tile: int, period: int) -> float:
    """Multiply-adds per row, columns rounded up to a vector, plus twice the numbers in the tables.

    Multiply-adds decide at large batches, tables at batch 1. The weight of two was read off measurements at n = 384
    to 4096: tests/bench/circulant.py --tiles shows them.
    """
    p, q = math.ceil(m / b), math.ceil(n / b)
    tiles_in, tiles_out = math.ceil(min(n, b) / tile), math.ceil(min(m, b) / tile)
    rows = 2 * (period // 2 + 1)
    wide, product_wide = _up(tile), _up(2 * tile * p)
    products = rows * wide * (q * tiles_in + p * tiles_out) + rows // 2 * (2 * tile * q) * product_wide
    tables = rows * (tiles_in + tiles_out) + rows // 2 * (2 * tile * q) * (2 * tile * p)
    return products + 2 * tables


def _up(columns: int) -> int:
    return math.ceil(columns / _VECTOR) * _VECTOR
