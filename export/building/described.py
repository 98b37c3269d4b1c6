"""What inspect says of a node."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgefc.layers.common.facts import ACTIVATIONS


@dataclass(frozen=True)
class Described:
    """What one node stands for, for people and for the counts of inspect().

    shape   of the dense weight in whose place it is: "16 x 8", outputs first
    dense   how many numbers the dense layer stores, its bias included
    detail  what tells this layer from another of its kind
    """

    shape: str
    dense: int
    detail: str = ""


def describe_linear(attributes: Mapping[str, Any], detail: str = "") -> Described:
    """What a node stands for that takes the place of torch.nn.Linear."""
    n, m = int(attributes["in_features"]), int(attributes["out_features"])
    return Described(shape=f"{m} x {n}", dense=n * m + m, detail=detail)


def describe_factors(attributes: Mapping[str, Any]) -> str:
    """'64 x 64 to 48 x 64', and the number of terms where there are several."""
    sides = [" x ".join(str(d) for d in attributes[name]) for name in ("in_factors", "out_factors")]
    terms = attributes["terms"]
    return " to ".join(sides) + (f", {terms} terms" if terms > 1 else "")


def describe_lstm(attributes: Mapping[str, Any], detail: str) -> Described:
    """What a node stands for that takes the place of one layer of torch.nn.LSTM, which stores two biases."""
    n, h = int(attributes["input_size"]), int(attributes["hidden_size"])
    gates = ", hard sigmoid" if attributes["hard_sigmoid"] else ""
    return Described(shape=f"4 x {h} x ({n} + {h})", dense=4 * h * (n + h) + 8 * h, detail=detail + gates)


def activation_name(attributes: Mapping[str, Any]) -> str:
    """The element-wise function of a node.

    Raises:
        ValueError: a number that stands for none.
    """
    code = int(attributes["activation"])
    if not 0 <= code < len(ACTIVATIONS):
        raise ValueError(f"no activation {code}")
    return ACTIVATIONS[code]


def unsigned(seed: int) -> int:
    """A seed as it was given: in the file it travels in two's complement."""
    return seed % 2**64
