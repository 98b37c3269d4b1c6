"""Weights that torch computes before each use, as ordinary ones: what export() traces.

A file then stores the effective weight once, whatever made it: parametrizations (weight and spectral norm, orthogonal
matrices), pruning masks. Traced as they are, some have no ONNX form, and others leave both factors in the file.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from edgefc.layers.common.effective import effective_tensors, make_plain


@contextlib.contextmanager
def plain_weights(model: nn.Module) -> Iterator[None]:
    """Within the block every computed tensor of `model` is an ordinary one. Afterwards the model is as it was."""
    with contextlib.ExitStack() as restore, torch.no_grad():
        for module in list(model.modules()):
            if found := effective_tensors(module):
                restore.callback(_restorer(module))
                make_plain(module, found)
        yield


_CONTAINERS = ("_forward_pre_hooks", "_modules", "_parameters", "_buffers", "_non_persistent_buffers_set")


def _restorer(module: nn.Module) -> Callable[[], None]:
    """What brings a module back, with the same containers: handles of hooks refer to them."""
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
