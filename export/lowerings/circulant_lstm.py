"""CirculantLSTM -> edgefc::CirculantLSTM, one node per layer of the stack."""

import math
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from edgefc.export.bodies import circulant_lstm
from edgefc.export.build import function
from edgefc.export.described import Described, unsigned
from edgefc.export.lowerings.bilinear_lstm import OUTPUTS, describe_lstm
from edgefc.export.options import Options

NAME = "CirculantLSTM"
INPUTS = ("x", "kernel", "recurrent_kernel", "bias", "h0", "c0")
ATTRIBUTES = dict.fromkeys(
    ("input_size", "hidden_size", "block", "sign_seed", "hard_sigmoid", "tile", "period"), ir.AttributeType.INT
)


def lower(opset: int, options: Options) -> ir.Function:
    """The one function that serves every node of this op in a file."""
    return function(NAME, INPUTS, ATTRIBUTES, circulant_lstm.write, opset, OUTPUTS)


def prepare(attributes: Mapping[str, Any]) -> dict[str, int]:
    """What the lowering decides for one node: how its circulants are cut into tiles."""
    tile = choose_tile(*(attributes[name] for name in ("input_size", "hidden_size", "block")))
    return {"tile": tile, "period": attributes["block"] // tile}


def describe(attributes: Mapping[str, Any]) -> Described:
    seed = unsigned(attributes["sign_seed"])
    return describe_lstm(attributes, f"block {attributes['block']}, signs from seed {seed}")


def choose_tile(n: int, h: int, b: int) -> int:
    """The divisor of the block with the fewest multiply-adds a step, which are nearly the numbers in the tables too."""
    p, q = math.ceil(h / b), math.ceil(n / b)

    def cost(tile: int) -> int:
        frequencies = b // tile // 2 + 1
        return 2 * frequencies * b * (q + 9 * p) + frequencies * 16 * tile * tile * p * (p + q)

    return min((tile for tile in range(1, b + 1) if b % tile == 0), key=cost)
