"""The number in a seed tensor, read without waiting for an accelerator in every forward."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.utils._python_dispatch import _disable_current_modes

from edgefc.errors import UsageError


def tensor_of(seed: int, device: torch.device) -> Tensor:
    """The seed of 64 bits in two's complement, () int64."""
    with torch.inference_mode(False):
        return torch.tensor(seed - 2**64 if seed >= 2**63 else seed, dtype=torch.int64, device=device)


def drawn() -> int:
    """A seed from torch's generator on the CPU, also within a meta device or a tracer."""
    with _disable_current_modes():
        return _number(torch.empty((), dtype=torch.int64, device="cpu").random_(-(2**63), None))


def is_stand_in(tensor: Tensor) -> bool:
    """Whether a tracer has put this tensor, which has no values, in the place of another."""
    return isinstance(tensor, FakeTensor | FunctionalTensor)


class Reading:
    """Which tensor was read last and what it held. Copies and pickles of a layer start without it."""

    _tensor: "weakref.ref[Tensor] | None" = None
    _mark: tuple[int, int] | None = None
    _value = 0

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def note(self, tensor: Tensor) -> None:
        """`tensor` holds the seed from now on."""
        self._tensor, self._mark = weakref.ref(tensor), None

    def of(self, tensor: Tensor) -> int:
        """The seed in `tensor`: read each time on the CPU, elsewhere only after the tensor has changed.

        Writing through `tensor.data` is noticed on the CPU only: torch counts it in no version.
        """
        mark = _mark(tensor)
        if mark is not None and mark == self._mark and self._tensor is not None and self._tensor() is tensor:
            return self._value
        value = _number(tensor)
        self._tensor, self._mark, self._value = weakref.ref(tensor), mark, value
        return value

    def behind_stand_in(self) -> int | None:
        """The seed in the tensor that a tracer replaced; None for a layer that was built within a tracer.

        Raises:
            UsageError: the buffer was replaced by another tensor, which was not read before tracing.
        """
        if self._tensor is None:
            return None
        tensor = self._tensor()
        if tensor is None:
            raise UsageError("cannot read the seed of a layer while it is traced. Run the layer once before.")
        if tensor.is_meta or is_stand_in(tensor):
            return None
        with _disable_current_modes():
            return _number(tensor)


def _number(tensor: Tensor) -> int:
    return int(tensor) % 2**64


def _mark(tensor: Tensor) -> tuple[int, int] | None:
    """Differs after a change of the values; None where reading is cheap, or where torch counts no versions."""
    return None if tensor.device.type == "cpu" or tensor.is_inference() else (tensor.data_ptr(), tensor._version)
