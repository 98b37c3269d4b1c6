"""Copy on write: copies memory just before an operator writes to it."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

_WRITTEN_UNDECLARED = ("running_mean", "running_var")
"""Arguments of torch's batch norms that are written although the operator's schema does not mark them."""


class Copies:
    """A set of storages, and copies of those that were written."""

    def __init__(self) -> None:
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._copies: dict[int, torch.UntypedStorage] = {}

    def add(self, storages: Iterable[torch.UntypedStorage]) -> None:
        self._storages.update((storage._cdata, storage) for storage in storages)

    def lacks(self, storage: torch.UntypedStorage) -> bool:
        """Whether this storage is in the set and was not written, so that restore() does not change it."""
        return storage._cdata in self._storages and storage._cdata not in self._copies

    def take(self, storage: torch.UntypedStorage, copy: torch.UntypedStorage) -> None:
        self._copies[storage._cdata] = copy

    def is_written(self, storage: torch.UntypedStorage) -> bool:
        """Whether its bytes differ from the copy."""
        copy = self._copies.get(storage._cdata)
        if copy is None:
            return False
        return storage.nbytes() != copy.nbytes() or not torch.equal(_bytes(storage), _bytes(copy))

    def written(self) -> set[int]:
        """Returns the _cdata of the storages that differ from their copies."""
        return {key for key in self._copies if self.is_written(self._storages[key])}

    def restore(self) -> set[int]:
        """Restores the bytes and keeps the copies. Returns the _cdata of the storages that differed."""
        written = self.written()
        for key in written:
            storage, copy = self._storages[key], self._copies[key]
            if storage.nbytes() != copy.nbytes():
                storage.resize_(copy.nbytes())
            storage.copy_(copy)
        return written


class Writes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Copies storages within the block before an operator writes to them. All `into` share one copy."""

    supports_higher_order_operators = True

    def __init__(self, into: Iterable[Copies]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._into = tuple(into)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for index, name in _written(func):
            value = args[index] if index < len(args) else kwargs.get(name)
            for tensor in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(tensor, Tensor):
                    self._copy(tensor)
        return func(*args, **kwargs)

    def _copy(self, tensor: Tensor) -> None:
        for storage in storages(tensor):
            lacking = [copies for copies in self._into if copies.lacks(storage)]
            if lacking:
                copy = storage.clone()  # type: ignore[no-untyped-call]
                for copies in lacking:
                    copies.take(storage, copy)


def storages(tensor: Tensor) -> tuple[torch.UntypedStorage, ...]:
    """Returns the storages of a tensor. Returns none for tensors without values or with a non-strided layout."""
    wrapper: Any = tensor
    if is_traceable_wrapper_subclass(wrapper):
        inner = [getattr(wrapper, name) for name in wrapper.__tensor_flatten__()[0]]
        return tuple(storage for part in inner for storage in storages(part))
    if tensor.is_meta or tensor.layout != torch.strided or not has_memory(tensor):
        return ()
    return (tensor.untyped_storage(),)


def has_memory(tensor: Tensor) -> bool:
    """Whether a tensor has memory, unlike the fake tensors of torch.export."""
    return not (torch._is_functional_tensor(tensor) or isinstance(tensor, torch._subclasses.FakeTensor))


_written_arguments: dict[Any, tuple[tuple[int, str], ...]] = {}


def _written(func: Any) -> tuple[tuple[int, str], ...]:
    """Returns indices and names of the arguments that an operator writes. None for higher-order operators."""
    if func not in _written_arguments:
        arguments = func._schema.arguments if isinstance(func, torch._ops.OpOverload) else ()
        _written_arguments[func] = tuple(
            (index, argument.name)
            for index, argument in enumerate(arguments)
            if (argument.alias_info is not None and argument.alias_info.is_write)
            or argument.name in _WRITTEN_UNDECLARED
        )
    return _written_arguments[func]


def _bytes(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
