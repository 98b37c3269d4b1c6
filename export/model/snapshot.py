"""Records the state of a model so that it can be restored bit for bit."""

import contextlib
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.export.model.writes import Copies, Writes, has_memory, storages

_ATOMS = (type(None), bool, int, float, complex, str, bytes)
_LIBRARIES = sys.stdlib_module_names | {"torch", "numpy"}
_REFILLABLE = (dict, OrderedDict, defaultdict, list, set, deque)
_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))
_MISSING = object()


class Snapshot:
    """The state of a model at one moment.

    A snapshot records by identity the attributes of every module and of every object in them, and the items of lists,
    dicts, sets and deques, at any depth. For tensors it also records values, shapes, requires_grad and grad. It does
    not record the attributes of objects from the standard library, torch and numpy, and no slots.

    Values are copied on the first write, which `watch` detects (copy on write). So a snapshot needs memory only for
    tensors that are written. Writes that bypass torch's dispatcher (through numpy or a pointer) are not detected.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._contents: dict[int, tuple[Any, Any]] = {}
        self._tensors: dict[int, _TensorRecord] = {}
        self._copies = Copies()
        self._scripted: list[tuple[nn.Module, str, Tensor]] = []
        self._generators: dict[int, tuple[torch.Generator, Tensor]] = {}
        self._record()

    @contextlib.contextmanager
    def watch(self, *others: "Snapshot") -> Iterator[None]:
        """Copies tensors before they are written within the block, for this snapshot and the others.

        Functions compiled by torch.compile run uncompiled: writes of their kernels cannot be detected, and a dispatch
        mode would make torch.compile disable them permanently.
        """
        with torch.compiler.set_stance("force_eager"), Writes(snapshot._copies for snapshot in (self, *others)):
            yield

    def restore(self) -> None:
        """Restores the recorded state. Keeps the copies, so that it can be called again."""
        for item, content in self._contents.values():
            if not _same_content(item, content):
                _refill(item, content)
        for module, name, tensor in self._scripted:
            if getattr(module, name) is not tensor:
                setattr(module, name, tensor)
        for record in self._tensors.values():
            record.restore()
        written = self._copies.restore()
        for record in self._tensors.values():
            if not record.tensor.is_inference() and any(s._cdata in written for s in storages(record.tensor)):
                torch.autograd.graph.increment_version(
                    record.tensor
                )  # invalidates caches that use the version as a key

    def restore_generators(self) -> None:
        """Restores the states of the torch.Generator objects of the model."""
        for generator, state in self._generators.values():
            generator.set_state(state)

    def adopt_meta(self) -> None:
        """Updates the record for meta tensors that a run has replaced by tensors with values."""
        for item, content in self._contents.values():
            if isinstance(content, dict):
                for key, value in content.items():
                    now = item.get(key)
                    if isinstance(value, Tensor) and value.is_meta and isinstance(now, Tensor) and not now.is_meta:
                        content[key] = now

    def is_changed(self) -> bool:
        """Whether anything differs from this snapshot."""
        return (
            any(not _same_content(item, content) for item, content in self._contents.values())
            or any(getattr(module, name) is not tensor for module, name, tensor in self._scripted)
            or any(record.is_moved() for record in self._tensors.values())
            or bool(self._copies.written())
        )

    def changed_tensors(self) -> list[str]:
        """Names of the recorded parameters and buffers whose values differ from this snapshot."""
        return [name for name, before in self._changed("_parameters", "_buffers") if isinstance(before, Tensor)]

    def changed_attributes(self) -> list[str]:
        """Names of all attributes of modules that differ from this snapshot."""
        return [name for name, _ in self._changed("_parameters", "_buffers", None)]

    def will_stay(self, tensor: Tensor) -> bool:
        """Whether restore() keeps the current values of `tensor`."""
        record = self._tensors.get(id(tensor))
        moved = record is not None and record.is_moved()
        return not moved and all(self._copies.lacks(storage) for storage in storages(tensor))

    def _record(self) -> None:
        waiting: list[Any] = [self.model]
        seen: dict[int, Any] = {}  # keeps the objects alive, because ids of deleted objects are reused
        while waiting:
            item = waiting.pop()
            if type(item) in _ATOMS or id(item) in seen:
                continue
            seen[id(item)] = item
            if isinstance(item, torch.Generator):
                self._generators[id(item)] = item, item.get_state()
            elif type(item) in _REFILLABLE:
                content = item.copy()
                self._contents[id(item)] = item, content
                waiting.extend(content.values() if isinstance(content, dict) else content)
            elif isinstance(item, (tuple, frozenset)):
                waiting.extend(item)
            elif isinstance(item, Tensor):
                self._tensors[id(item)] = record = _TensorRecord(item)
                self._copies.add(storages(item))
                waiting += [record.grad, vars(item)]
            elif isinstance(item, nn.Module) or _has_state(item):
                waiting.append(vars(item))
                if isinstance(item, torch.jit.ScriptModule):  # its tensors are not in vars()
                    held = (*item.named_parameters(recurse=False), *item.named_buffers(recurse=False))
                    self._scripted += [(item, name, tensor) for name, tensor in held]
                    waiting += [tensor for _, tensor in held]

    def _changed(self, *groups: str | None) -> list[tuple[str, Any]]:
        """Returns names and recorded values of changed entries in these dicts of each module.

        The group None stands for the other attributes of the module.
        """
        changed = []
        for prefix, module in self.model.named_modules():
            for group in groups:
                now = vars(module) if group is None else vars(module).get(group, {})
                if id(now) not in self._contents:  # belongs to a scripted module
                    continue
                before = self._contents[id(now)][1]
                changed += [
                    (f"{prefix}.{key}" if prefix else key, before.get(key))
                    for key in {**before, **now}
                    if key not in _MODULE_ATTRIBUTES
                    and self._differs(before.get(key, _MISSING), now.get(key, _MISSING))
                ]
        return changed

    def _differs(self, before: Any, now: Any) -> bool:
        if before is not now:
            return not (isinstance(before, Tensor) and isinstance(now, Tensor) and _equal(before, now))
        if isinstance(now, Tensor):
            return self._tensors[id(now)].is_moved() or any(self._copies.is_written(s) for s in storages(now))
        return id(now) in self._contents and not _same_content(*self._contents[id(now)])


class _TensorRecord:
    """One tensor object: the location of its values, and its autograd state."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.data = tensor.data
        self.place = _place(tensor)
        self.requires_grad = tensor.requires_grad
        self.grad = tensor.grad if tensor.is_leaf else None

    def is_moved(self) -> bool:
        return bool(_place(self.tensor) != self.place)

    def restore(self) -> None:
        tensor = self.tensor
        if self.is_moved():
            tensor.data = self.data
        if tensor.is_leaf:
            if tensor.requires_grad != self.requires_grad:
                tensor.requires_grad_(self.requires_grad)
            if tensor.grad is not self.grad:
                tensor.grad = self.grad


def _same_content(item: Any, content: Any) -> bool:
    if len(item) != len(content):
        return False
    if isinstance(item, set):
        return {id(value) for value in item} == {id(value) for value in content}
    if isinstance(item, dict):
        pairs = zip(item.items(), content.items(), strict=True)
        return all(key is other and value is before for (key, value), (other, before) in pairs)
    return all(value is before for value, before in zip(item, content, strict=True))


def _refill(item: Any, content: Any) -> None:
    item.clear()
    if isinstance(item, (dict, set)):
        item.update(content)
    else:
        item.extend(content)


def _has_state(item: Any) -> bool:
    """Whether the attributes of an object belong to the model: its class is from the user or from a model library."""
    if isinstance(item, type) or str(type(item).__module__).partition(".")[0] in _LIBRARIES:
        return False
    return type(getattr(item, "__dict__", None)) is dict


def _place(tensor: Tensor) -> Any:
    if tensor.layout != torch.strided:
        return tensor.layout, tensor.dtype, tensor.shape
    memory = tuple(storage._cdata for storage in storages(tensor))
    return memory, tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset()


def _equal(a: Tensor, b: Tensor) -> bool:
    """Compares bits, so that NaNs are equal to themselves."""
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    if a.layout != torch.strided or a.is_meta or not (has_memory(a) and has_memory(b)):
        return a is b
    with torch.no_grad():
        return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
