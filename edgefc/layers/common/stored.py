"""Layers whose weights are buffers of a fixed type: packed codes, and numbers in float16."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self


class StoredWeights(nn.Module):
    """Base class of layers that store their weights as buffers and do not train them.

    half(), double(), to(dtype) and similar calls move the buffers to the new device and keep their dtypes.
    load_state_dict() converts what it loads, also with assign=True.

    `like` is an empty tensor, not in the state dict. It has the dtype and device that a weight of the layer would have.
    """

    like: Tensor

    def _store(self, device: torch.device | str | None, dtype: torch.dtype | None, **buffers: Tensor) -> None:
        """Registers the buffers, by name."""
        self._stored = tuple(buffers)
        self.register_buffer("like", torch.empty(0, device=device, dtype=dtype), persistent=False)
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)

    def stored_numbers(self) -> int:
        """Returns the number of stored weights and scales, without parameters."""
        return sum(self.get_buffer(name).numel() for name in self._stored)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = {name: self.get_buffer(name) for name in self._stored}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in before.items():
            now = self.get_buffer(name)
            if now.dtype != old.dtype:
                self._buffers[name] = old.to(now.device)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self._stored:
            loaded, own = state_dict.get(prefix + name), self.get_buffer(name)
            if isinstance(loaded, Tensor) and loaded.is_floating_point() and loaded.dtype != own.dtype:
                state_dict[prefix + name] = loaded.to(own.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args)
        place = self.get_buffer(self._stored[0]).device
        if self.like.device != place:  # after assign=True
            self.like = torch.empty(0, dtype=self.like.dtype, device=place)


def stored_numbers(module: nn.Module) -> int:
    """Returns the number of parameters, and of stored weights and scales, in a module."""
    counts = (getattr(part, "stored_numbers", None) for part in module.modules())
    fixed: int = sum(count() for count in counts if callable(count))
    return fixed + sum(parameter.numel() for parameter in module.parameters())
