"""The description of a layer for `edgefc layers`, pages and tests: one Entry for each configuration to show."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

OURS = "not in the paper: our extension"


@dataclass(frozen=True)
class Entry:
    """One layer in one configuration.

    make      width -> the structured layer
    dense     width -> the torch layer that it replaces
    example   width -> an example input of two rows
    call      (layer, input) -> the output
    width     the size in the table of the docs
    size      the same size in words
    recipe    the name of the recipe that trains it; empty if there is none
    claim     the claim of the paper
    replaces  the kind of torch layer that it replaces: "linear", "convolution", "embedding", "lstm", "attention", or
              "linear pair" for two linear layers, the second of which has the sizes of the first swapped; else empty
    linear    (n, m) -> the structured layer, if it replaces a torch.nn.Linear of any n inputs and m outputs; else None
    """

    name: str
    paper: str
    size: str
    width: int
    make: Callable[[int], Any]
    dense: Callable[[int], nn.Module]
    claim: str
    recipe: str = ""
    example: Callable[[int], Tensor] = lambda width: torch.randn(2, width)
    call: Callable[[nn.Module, Tensor], Tensor] = lambda layer, x: layer(x)
    replaces: str = ""
    linear: Callable[[int, int], Any] | None = None


def linear(name: str, paper: str, claim: str, make: Callable[[int, int], Any], recipe: str = "") -> Entry:
    """Replaces nn.Linear: make(inputs, outputs)."""
    return Entry(
        name, paper, "768 to 768", 768, lambda n: make(n, n), lambda n: nn.Linear(n, n), claim, recipe,
        replaces="linear", linear=make,
    )  # fmt: skip


def conv(name: str, paper: str, claim: str, make: Callable[[int], Any], recipe: str = "") -> Entry:
    """Replaces nn.Conv2d: make(channels) has a kernel of 3 x 3 and a padding of 1."""
    return Entry(
        name, paper, "128 to 128 channels, 3 x 3", 128, make, lambda n: nn.Conv2d(n, n, 3, padding=1), claim, recipe,
        example=lambda n: torch.randn(2, n, 8, 8), replaces="convolution",
    )  # fmt: skip


def embedding(name: str, paper: str, claim: str, make: Callable[[int], Any], recipe: str = "") -> Entry:
    """Replaces nn.Embedding: make(width) has 16 times as many tokens."""
    return Entry(
        name, paper, "12,288 x 768", 768, make, lambda n: nn.Embedding(16 * n, n), claim, recipe,
        example=lambda n: torch.arange(6).reshape(2, 3) * 7 % (16 * n), replaces="embedding",
    )  # fmt: skip


def lstm(name: str, paper: str, claim: str, make: Callable[[int], Any], recipe: str = "") -> Entry:
    """Replaces nn.LSTM: make(width) has batch_first=True."""
    return Entry(
        name, paper, "256 to 256", 256, make, lambda n: nn.LSTM(n, n, batch_first=True), claim, recipe,
        example=lambda n: torch.randn(2, 3, n), call=lambda layer, x: layer(x)[0], replaces="lstm",
    )  # fmt: skip


def attention(name: str, paper: str, claim: str, make: Callable[[int], Any]) -> Entry:
    """Replaces nn.MultiheadAttention: make(width) has 4 heads and batch_first=True."""
    return Entry(
        name, paper, "width 768, 4 heads", 768, make, lambda n: nn.MultiheadAttention(n, 4, batch_first=True), claim,
        example=lambda n: torch.randn(2, 5, n), call=lambda layer, x: layer(x, x, x, need_weights=False)[0],
        replaces="attention",
    )  # fmt: skip
