"""Element-wise functions by name, for layers that store their activation in the ONNX node."""

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
    """Returns the activation function called `name`.

    Raises:
        UsageError: the name is unknown.
    """
    if not isinstance(name, str) or name not in FUNCTIONS:
        raise UsageError(f"unknown activation {name!r}. Choose one of: {', '.join(ACTIVATIONS)}.")
    return FUNCTIONS[name]


def code(name: str) -> int:
    """Returns the number that encodes the activation in an ONNX file."""
    activation(name)
    return ACTIVATIONS.index(name)
