"""Element-wise functions by name, for layers whose function is part of their node."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from edgefc.errors import UsageError
from edgefc.layers.common.facts import ACTIVATIONS as ACTIVATIONS

Activation = Callable[[Tensor], Tensor]

FUNCTIONS: dict[str, Activation] = {
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
"""Each of the names in facts.ACTIVATIONS. The same in ONNX: edgefc.export.building.activations."""


def activation(name: str) -> Activation:
    """The function of that name.

    Raises:
        UsageError: no such name.
    """
    if not isinstance(name, str) or name not in FUNCTIONS:
        raise UsageError(f"no activation {name!r}. Choose one of: {', '.join(ACTIVATIONS)}.")
    return FUNCTIONS[name]


def code(name: str) -> int:
    """The number that stands for the function in a file."""
    activation(name)
    return ACTIVATIONS.index(name)
