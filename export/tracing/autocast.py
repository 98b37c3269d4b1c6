"""torch.autocast around an export and in forward: a file keeps the precision of its weights."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn


@contextlib.contextmanager
def without_autocast(model: nn.Module) -> Iterator[None]:
    """A file holds one precision: an autocast around export must not get into it."""
    with contextlib.ExitStack() as stack:
        for kind in _device_kinds(model) | {"cuda"}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextlib.contextmanager
def entered_autocasts(model: nn.Module) -> Iterator[set[str]]:
    """Yields a set that is filled with the autocasts of the model's devices that code in the block enters."""
    kinds, enter = _device_kinds(model), torch.autocast.__enter__
    seen: set[str] = set()

    def noting(autocast: torch.autocast) -> Any:
        result = enter(autocast)  # type: ignore[no-untyped-call]
        seen.update(
            f"torch.autocast({kind!r}, {torch.get_autocast_dtype(kind)})"
            for kind in kinds
            if torch.is_autocast_enabled(kind)
        )
        return result

    with mock.patch.object(torch.autocast, "__enter__", noting):
        yield seen


@contextlib.contextmanager
def without_autocast_regions() -> Iterator[None]:
    """Within the block entering an autocast does nothing: torch.export makes a function of what lies inside one, and
    the layers in it lose their names."""
    with (
        mock.patch.object(torch.autocast, "__enter__", lambda autocast: autocast),
        mock.patch.object(torch.autocast, "__exit__", mock.Mock(return_value=None)),
    ):
        yield


def _device_kinds(model: nn.Module) -> set[str]:
    return {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} - {"meta"} | {"cpu"}
