"""Runs a model without the blocks that end before a layer first runs: their outputs are those of the original model.

Half of the blocks on average. Blocks are the members of lists and sequences of modules, and the parts of the model.
That a model gives the same outputs without them is checked: it does not if a block leaves something behind, such as
a cache of keys and values.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgefc.errors import EdgefcError
from edgefc.replacing.measuring import Outputs, outputs_of
from edgefc.replacing.statistics import Batch

_MEMORY = 1 << 28
"""The bytes that the outputs of blocks may take."""


class Prefix:
    """The outputs of the blocks of a model.

    Attributes:
        original   the outputs of the model, for each batch
    """

    def __init__(self, model: nn.Module, batches: Sequence[Batch], layers: Mapping[str, nn.Module]) -> None:
        """`layers` are those that will be replaced, by name."""
        self._model, self._batches = model, batches
        self._kept: dict[nn.Module, list[Any]] = {block: [] for block in _blocks(model)}
        self._before: dict[str, set[nn.Module]] = {name: set(self._kept) for name in layers}
        self._usable: dict[frozenset[nn.Module], bool] = {}
        self.original: list[Outputs] = []
        for batch in batches:
            self.original += self._recorded(batch, layers)

    def run(self, name: str) -> list[Outputs]:
        """The outputs of the model as it is now, if nothing before the layer of this name has changed.

        Raises:
            UsageError: the model does not run.
        """
        skipped = frozenset(self._before[name])
        return self._run(skipped if self._usable.get(skipped) else frozenset())

    def check(self, name: str) -> None:
        """Checks that blocks can be left out before a layer. The model must be the original."""
        skipped = frozenset(self._before[name])
        if skipped not in self._usable:
            try:
                self._usable[skipped] = _same(self.original, self._run(skipped))
            except EdgefcError:
                self._usable[skipped] = False

    def _run(self, skipped: frozenset[nn.Module]) -> list[Outputs]:
        result = []
        for index, batch in enumerate(self._batches):
            with ExitStack() as stack:
                for block in skipped:
                    stack.enter_context(_forward(block, _returning(self._kept[block][index])))
                result += outputs_of(self._model, [batch])
        return result

    def _recorded(self, batch: Batch, layers: Mapping[str, nn.Module]) -> list[Outputs]:
        """Runs a batch. Keeps the outputs of blocks that run once, and notes which of them end before each layer."""
        ended: dict[nn.Module, list[Any]] = {}
        seen: dict[str, set[nn.Module]] = {}
        with ExitStack() as stack:
            for name, layer in layers.items():
                stack.callback(layer.register_forward_pre_hook(_noting(name, seen, ended)).remove)
            for block in self._kept:
                stack.callback(block.register_forward_hook(_keeping(ended)).remove)
            outputs = outputs_of(self._model, [batch])
        for block in list(self._kept):
            found = ended.get(block, [])
            if len(found) != 1 or not _plain(found[0]):
                del self._kept[block]
                continue
            self._kept[block].append(found[0])
        room = _MEMORY // len(self._batches)
        for block in list(self._kept):
            room -= _bytes(self._kept[block][-1])
            if room < 0:
                del self._kept[block]
        self._before = {
            name: before & seen.get(name, set()) & self._kept.keys() for name, before in self._before.items()
        }
        return outputs


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    for parent in model.modules():
        if parent is model or isinstance(parent, nn.ModuleList | nn.Sequential):
            for child in parent.children():
                own = any(True for _ in child.parameters())
                if own and not isinstance(child, nn.ModuleList | torch.jit.ScriptModule):
                    yield child


def _noting(name: str, seen: dict[str, set[nn.Module]], ended: Mapping[nn.Module, Any]) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        seen.setdefault(name, set(ended))

    return hook


def _keeping(ended: dict[nn.Module, list[Any]]) -> Callable[..., None]:
    def hook(block: nn.Module, args: Any, output: Any) -> None:
        ended.setdefault(block, []).append(copy.deepcopy(output) if _plain(output) else None)

    return hook


def _returning(output: Any) -> Callable[..., Any]:
    return lambda *args, **keywords: copy.deepcopy(output)  # so that the model can change it


@contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Gives a module another forward within the block."""
    own = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def _plain(output: Any) -> bool:
    """Whether an output has tensors only."""
    leaves = tree_leaves(output)
    return bool(leaves) and all(isinstance(each, Tensor) for each in leaves if each is not None)


def _bytes(output: Any) -> int:
    return sum(each.nbytes for each in tree_leaves(output) if isinstance(each, Tensor))


def _same(before: Sequence[Outputs], after: Sequence[Outputs]) -> bool:
    pairs = list(zip(before, after, strict=True))
    return all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)
