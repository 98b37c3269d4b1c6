"""Handles torch.autocast around an export and within forward: a file keeps the precision of its weights."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn


@contextlib.contextmanager
def without_autocast(model: nn.Module) -> Iterator[None]:
    """Disables autocast within the block, so that an autocast around export() does not affect the file."""
    with contextlib.ExitStack() as stack:
        for kind in _device_kinds(model) | {"cuda"}:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextlib.contextmanager
def entered_autocasts(model: nn.Module) -> Iterator[set[str]]:
    """Yields a set that collects the autocast contexts for the devices of the model that are entered in the block."""
    kinds, enter = _device_kinds(model), torch.autocast.__enter__
    seen: set[str] = set()

    def record(autocast: torch.autocast) -> Any:
        result = enter(autocast)  # type: ignore[no-untyped-call]
        seen.update(
            f"torch.autocast({kind!r}, {torch.get_autocast_dtype(kind)})"
            for kind in kinds
            if torch.is_autocast_enabled(kind)
        )
        return result

    with mock.patch.object(torch.autocast, "__enter__", record):
        yield seen


@contextlib.contextmanager
def without_autocast_regions() -> Iterator[None]:
    """Makes autocast contexts no-ops within the block.

    torch.export turns the content of an autocast context into a function, and layers in it lose their names.
    """
    with (
        mock.patch.object(torch.autocast, "__enter__", lambda autocast: autocast),
        mock.patch.object(torch.autocast, "__exit__", mock.Mock(return_value=None)),
    ):
        yield


def _device_kinds(model: nn.Module) -> set[str]:
    return {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} - {"meta"} | {"cpu"}
