"""Element-wise functions by name, for layers whose function is part of their node."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from edgefc.errors import UsageError

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "identity": lambda x: x,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": functional.softplus,
    "sin": torch.sin,
}
"""In files a function is its place in this list: append, never reorder. The same in ONNX: edgefc.export.activations."""


def activation(name: str) -> Activation:
    """The function of that name.

    Raises:
        UsageError: no such name.
    """
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UsageError(f"no activation {name!r}. Choose one of: {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def code(name: str) -> int:
    """The number that stands for the function in a file."""
    activation(name)
    return list(ACTIVATIONS).index(name)
