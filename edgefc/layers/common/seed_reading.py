"""Reads the number in a seed tensor, without synchronising with an accelerator in every forward."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.utils._python_dispatch import _disable_current_modes

from edgefc.errors import UsageError


def seed_tensor(seed: int, device: torch.device) -> Tensor:
    """Returns the 64-bit seed in two's complement, () int64."""
    with torch.inference_mode(False):
        return torch.tensor(seed - 2**64 if seed >= 2**63 else seed, dtype=torch.int64, device=device)


def draw_seed() -> int:
    """Draws a seed from torch's CPU generator, also within a meta device or a tracer."""
    with _disable_current_modes():
        return _number(torch.empty((), dtype=torch.int64, device="cpu").random_(-(2**63), None))


def is_fake(tensor: Tensor) -> bool:
    """Whether this is a tensor without values that a tracer uses instead of the original."""
    return isinstance(tensor, FakeTensor | FunctionalTensor)


class Reading:
    """Caches the tensor that was read last, and its value. Copies and pickles of a layer exclude the cache."""

    _tensor: "weakref.ref[Tensor] | None" = None
    _mark: tuple[int, int] | None = None
    _value = 0

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def note(self, tensor: Tensor) -> None:
        """Registers `tensor` as the one that holds the seed."""
        self._tensor, self._mark = weakref.ref(tensor), None

    def of(self, tensor: Tensor) -> int:
        """Returns the seed in `tensor`. On other devices than the CPU, reads the tensor only after it has changed.

        There, a write through `tensor.data` is not detected, because torch does not change the version of the tensor.
        """
        mark = _mark(tensor)
        if mark is not None and mark == self._mark and self._tensor is not None and self._tensor() is tensor:
            return self._value
        value = _number(tensor)
        self._tensor, self._mark, self._value = weakref.ref(tensor), mark, value
        return value

    def original_seed(self) -> int | None:
        """Returns the seed in the tensor that a tracer replaced, or None if the layer was built within a tracer.

        Raises:
            UsageError: the buffer was replaced by another tensor that was not read before tracing.
        """
        if self._tensor is None:
            return None
        tensor = self._tensor()
        if tensor is None:
            raise UsageError("cannot read the seed of a layer during tracing. Run the layer once before tracing.")
        if tensor.is_meta or is_fake(tensor):
            return None
        with _disable_current_modes():
            return _number(tensor)


def _number(tensor: Tensor) -> int:
    return int(tensor) % 2**64


def _mark(tensor: Tensor) -> tuple[int, int] | None:
    """Returns a value that changes with the tensor. None if reading is cheap, or if the tensor has no version."""
    return None if tensor.device.type == "cpu" or tensor.is_inference() else (tensor.data_ptr(), tensor._version)
