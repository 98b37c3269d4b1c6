"""Changes of a model that can be undone, and what torch's own modules need so that they call the new layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgefc.layers.attention.structured import StructuredAttention


@dataclass(frozen=True, eq=False)
class Change:
    owner: nn.Module
    attribute: str
    before: Any
    after: Any


class Surgery:
    """A list of changes of one model.

        with Surgery(model) as surgery:
            surgery.put("encoder.0", layer)

    An exception within the block undoes all of them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._changes: list[Change] = []

    def __enter__(self) -> "Surgery":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            self.undo()

    @property
    def count(self) -> int:
        """The number of changes."""
        return len(self._changes)

    def undo(self, count: int = 0) -> None:
        """Undoes all changes but the first `count`, the last one first."""
        while len(self._changes) > count:
            change = self._changes.pop()
            _assign(change.owner, change.attribute, change.before)

    @contextmanager
    def undone(self, count: int) -> Iterator[None]:
        """Within the block, the model is as it was after the first `count` changes."""
        later = self._changes[count:]
        try:
            for change in reversed(later):
                _assign(change.owner, change.attribute, change.before)
            yield
        finally:
            for change in later:
                _assign(change.owner, change.attribute, change.after)

    def put(self, name: str, module: Any) -> None:
        """Replaces the submodule or the attribute of this name."""
        place, _, attribute = name.rpartition(".")
        self.set(self.model.get_submodule(place), attribute, module)

    def set(self, owner: nn.Module, attribute: str, value: Any) -> None:
        """Sets an attribute."""
        before = getattr(owner, attribute)
        self._changes.append(Change(owner, attribute, before, value))
        _assign(owner, attribute, value)

    def open_attention(self, names: tuple[str, ...]) -> None:
        """Replaces an nn.MultiheadAttention by a StructuredAttention with the same four linear layers."""
        given = self.model.get_submodule(names[0])
        assert isinstance(given, nn.MultiheadAttention)
        layer = StructuredAttention.from_attention(given, lambda linear, seed: _trainable(linear, given), seed=0)
        for name in names:
            self.put(name, layer)

    def call_layers(self) -> None:
        """Makes nn.TransformerEncoderLayer and nn.TransformerEncoder call their layers.

        In eval mode torch has fused kernels for them, which read the weights of the layers instead.
        """
        for module in self.model.modules():
            if isinstance(module, nn.TransformerEncoderLayer):
                self.set(module, "activation_relu_or_gelu", 0)  # only decides whether torch takes the fused kernel
            elif isinstance(module, nn.TransformerEncoder):
                self.set(module, "use_nested_tensor", False)


def _assign(owner: nn.Module, attribute: str, value: Any) -> None:
    """Sets an attribute, from a module to a function as well."""
    if attribute in owner._modules and not isinstance(value, nn.Module):
        del owner._modules[attribute]
    setattr(owner, attribute, value)


@torch.no_grad()
def _trainable(linear: nn.Linear, attention: nn.MultiheadAttention) -> nn.Linear:
    """The projection with its own memory, and with the requires_grad of the attention's weights."""
    if linear is attention.out_proj:
        return linear
    given = attention.in_proj_weight if attention.in_proj_weight is not None else attention.q_proj_weight
    linear.weight = nn.Parameter(linear.weight.clone(), given.requires_grad)
    if attention.in_proj_bias is not None:
        linear.bias = nn.Parameter(linear.bias.clone(), attention.in_proj_bias.requires_grad)
    return linear.train(attention.training)
