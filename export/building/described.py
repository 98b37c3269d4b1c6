"""The description of a node for inspect."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgefc.layers.common.facts import ACTIVATIONS


@dataclass(frozen=True)
class Described:
    """The dense layer that a node replaces.

    shape   the shape of the dense weight: "16 x 8", outputs first
    dense   the number of values that the dense layer stores, including its bias
    detail  the configuration of the layer, as text
    width   the bytes of each value of the dense layer; None: those of the widest stored value
    """

    shape: str
    dense: int
    detail: str = ""
    width: int | None = None


def describe_linear(attributes: Mapping[str, Any], detail: str = "") -> Described:
    """The description of a node that replaces torch.nn.Linear."""
    n, m = int(attributes["in_features"]), int(attributes["out_features"])
    return Described(shape=f"{m} x {n}", dense=n * m + m, detail=detail)


def describe_storage(described: Described, attributes: Mapping[str, Any]) -> Described:
    """The description of a node that stores the dense weight in float16, or in codes of the attributes bits and group.

    The dense layer is in float32.
    """
    codes = f"{attributes['bits']} bits, groups of {attributes['group']}" if "bits" in attributes else "float16"
    return replace(described, detail=codes, width=4)


def describe_conv(attributes: Mapping[str, Any]) -> Described:
    """The description of a node that replaces torch.nn.Conv2d."""
    shape = (attributes["out_channels"], attributes["in_channels"] // attributes["groups"], *attributes["kernel_shape"])
    return Described(shape=" x ".join(map(str, shape)), dense=math.prod(shape) + shape[0])


def describe_embedding(attributes: Mapping[str, Any]) -> Described:
    """The description of a node that replaces torch.nn.Embedding."""
    rows, width = attributes["num_embeddings"], attributes["embedding_dim"]
    return Described(shape=f"{rows} x {width}", dense=rows * width)


def describe_factors(attributes: Mapping[str, Any]) -> str:
    """'64 x 64 to 48 x 64', and the number of terms if there are several."""
    sides = [" x ".join(str(d) for d in attributes[name]) for name in ("in_factors", "out_factors")]
    terms = attributes["terms"]
    return " to ".join(sides) + (f", {terms} terms" if terms > 1 else "")


def describe_lstm(attributes: Mapping[str, Any], detail: str) -> Described:
    """The description of a node that replaces one layer of torch.nn.LSTM, which stores two biases."""
    n, h = int(attributes["input_size"]), int(attributes["hidden_size"])
    gates = ", hard sigmoid" if attributes["hard_sigmoid"] else ""
    return Described(shape=f"4 x {h} x ({n} + {h})", dense=4 * h * (n + h) + 8 * h, detail=detail + gates)


def activation_name(attributes: Mapping[str, Any]) -> str:
    """The element-wise function of a node.

    Raises:
        ValueError: the number is not that of a function.
    """
    code = int(attributes["activation"])
    if not 0 <= code < len(ACTIVATIONS):
        raise ValueError(f"no activation {code}")
    return ACTIVATIONS[code]


def unsigned(seed: int) -> int:
    """The unsigned value of a seed, which the file stores in two's complement."""
    return seed % 2**64
