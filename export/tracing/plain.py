"""Replaces weights that torch computes before each use by ordinary parameters, for tracing.

The file then stores the effective weight once. This covers parametrizations (weight and spectral norm, orthogonal
matrices) and pruning masks. Without the replacement, some have no ONNX form, and others store both factors in the file.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from edgefc.layers.common.effective import effective_tensors, make_plain


@contextlib.contextmanager
def plain_weights(model: nn.Module) -> Iterator[None]:
    """Replaces every computed tensor of `model` by a parameter within the block. Restores the model afterwards."""
    with contextlib.ExitStack() as restore, torch.no_grad():
        for module in list(model.modules()):
            if tensors := effective_tensors(module):
                restore.callback(_restorer(module))
                make_plain(module, tensors)
        yield


_CONTAINERS = ("_forward_pre_hooks", "_modules", "_parameters", "_buffers", "_non_persistent_buffers_set")


def _restorer(module: nn.Module) -> Callable[[], None]:
    """Returns a function that restores the module. Keeps the container objects, because hook handles refer to them."""
    kind, attributes = type(module), vars(module).copy()
    held = [(attributes[name], attributes[name].copy()) for name in _CONTAINERS]

    def restore() -> None:
        module.__class__ = kind
        vars(module).clear()
        vars(module).update(attributes)
        for container, content in held:
            container.clear()
            container.update(content)

    return restore
