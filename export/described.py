"""What lowerings tell people of a node."""

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
