"""Finds feed-forward pairs, which TiedFFN can replace: two linear layers with a function between them.

The pairs of torch.nn, of transformers and of nn.Sequential(Linear, activation, [Dropout,] Linear) are known.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn import functional

from edgefc.layers.common.trained import is_linear

_FORMS = (
    ("linear1", "linear2", "activation", "dropout"),  # nn.TransformerEncoderLayer, nn.TransformerDecoderLayer
    ("intermediate.dense", "output.dense", "intermediate.intermediate_act_fn", None),  # BERT and its relatives
    ("c_fc", "c_proj", "act", None),  # GPT-2
    ("fc1", "fc2", "activation_fn", None),  # ViT, CLIP
)
"""The first layer, the second layer, the function, and the dropout between them."""

_MODULES = {
    "ReLU": "relu", "GELU": "gelu", "SiLU": "silu", "Tanh": "tanh", "Sigmoid": "sigmoid", "Identity": "identity",
    "GELUActivation": "gelu", "NewGELUActivation": "gelu_tanh", "GELUTanh": "gelu_tanh", "SiLUActivation": "silu",
}  # fmt: skip
_FUNCTIONS = {functional.relu: "relu", functional.gelu: "gelu", functional.silu: "silu"}


@dataclass(frozen=True)
class Pair:
    """first, second: paths below the module. between: paths of modules and functions that become the identity."""

    first: str
    second: str
    activation: str
    dropout: float
    between: tuple[str, ...]


def pairs_of(module: nn.Module) -> Iterator[Pair]:
    """Yields the pair of a module, if it has one."""
    if isinstance(module, nn.Sequential):
        yield from _sequential(module)
        return
    for first, second, function, dropout in _FORMS:
        up, down, act = (_get(module, path) for path in (first, second, function))
        name = activation_name(act)
        if name is None or not _fit_together(up, down):
            continue
        drop = None if dropout is None else _get(module, dropout)
        between = (function, *([dropout] if dropout and isinstance(drop, nn.Dropout) else []))
        yield Pair(first, second, name, float(getattr(drop, "p", 0.0)), between)
        return


def activation_name(function: Any) -> str | None:
    """The name of an activation in edgefc.layers.common.activations; None for another function."""
    if isinstance(function, nn.Module):
        name = _MODULES.get(type(function).__name__)
        return "gelu_tanh" if name == "gelu" and getattr(function, "approximate", "none") == "tanh" else name
    try:
        return _FUNCTIONS.get(function)
    except TypeError:  # not hashable
        return None


def _sequential(module: nn.Sequential) -> Iterator[Pair]:
    parts = list(module.named_children())
    for at in range(len(parts) - 2):
        (first, up), (function, act) = parts[at : at + 2]
        rest = parts[at + 2 : at + 4]
        drop = rest.pop(0) if isinstance(rest[0][1], nn.Dropout) else None
        name = activation_name(act)
        if name is not None and rest and _fit_together(up, rest[0][1]):
            between = (function, *([drop[0]] if drop else []))
            yield Pair(first, rest[0][0], name, float(getattr(drop[1], "p", 0.0)) if drop else 0.0, between)
            return


def _fit_together(up: Any, down: Any) -> bool:
    if not (is_linear(up) and is_linear(down)):
        return False
    try:
        (d, h), (h2, d2) = (_sizes(each) for each in (up, down))
    except (AttributeError, TypeError):
        return False
    return (d, h) == (d2, h2)


def _sizes(linear: Any) -> tuple[int, int]:
    return (linear.in_features, linear.out_features) if isinstance(linear, nn.Linear) else (linear.nx, linear.nf)


def _get(module: nn.Module, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part, None)
    return found
