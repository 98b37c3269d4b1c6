"""What the inputs of the layers look like: moments for linear layers and convolutions, counts for embeddings.

One pass reads the calibration data once. Layers that always get the same tensor, such as the projections of queries,
keys and values, share one set of moments. If all moments together exceed the limit of memory, there are several passes.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgefc.errors import EdgefcError, UsageError, describe_error
from edgefc.fitting.moments import Moments, TokenCounts
from edgefc.layers.common.trained import trained_linear
from edgefc.progress import steps
from edgefc.replacing.finding import CONVOLUTION, LINEAR, TABLE, Target

MEMORY = 1 << 30
"""The bytes that the moments of one pass may take."""
_ROWS = 1 << 16
"""Patches of a convolution that are cut out at a time."""

Statistics = Moments | TokenCounts | None
Batch = Any


@dataclass(eq=False)
class Group:
    """Targets that always get the same tensor.

    Attributes:
        width  how many numbers an input has; for an embedding, the rows of the table
        calls  how often each member runs in one call of the model
    """

    members: list[Target]
    width: int
    calls: int = 1

    @property
    def leader(self) -> Target:
        return self.members[0]

    @property
    def bytes(self) -> int:
        """The memory of the moments, and of the product of one batch."""
        return 8 * self.width if self.leader.kind == TABLE else 16 * self.width * (self.width + 1)

    def empty(self) -> Moments | TokenCounts:
        return TokenCounts.empty(self.width) if self.leader.kind == TABLE else Moments.empty(self.width)


def batches_of(calibration: Any, name: str = "calibration") -> list[Batch]:
    """The calibration data as a list of batches: tensors, tuples of positional or dicts of keyword arguments.

    `name` is that of the argument, for messages.

    Raises:
        UsageError: not an iterable of such batches, or without any.
    """
    form = "Give a list of batches: tensors, tuples of positional arguments or dicts of keyword arguments."
    if isinstance(calibration, Tensor | np.ndarray | dict | str):
        raise UsageError(f"{name} is one {type(calibration).__name__}. {form}")
    try:
        batches = list(calibration)
    except TypeError:
        raise UsageError(f"{name} is a {type(calibration).__name__}, which is not iterable. {form}") from None
    if not batches:
        raise UsageError(f"{name} has no batches. {form}")
    for index, batch in enumerate(batches):
        if not isinstance(batch, Tensor | tuple | list | dict) and not hasattr(batch, "keys"):
            raise UsageError(f"batch {index + 1} of {name} is a {type(batch).__name__}. {form}")
    return batches


def call(model: nn.Module, batch: Batch, *, gradients: bool = False) -> Any:
    """Runs the model on a copy of a batch, on the device of the model. Compiled models run without their compiled code,
    which would not call hooks.

    Raises:
        UsageError: the model raises.
    """
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    args, keywords = _arguments(batch, device)
    try:
        with torch.set_grad_enabled(gradients), _eager():
            return model(*args, **keywords)
    except EdgefcError:
        raise
    except Exception as error:
        raise UsageError(
            f"the model does not run on the data: {describe_error(error)}. Give batches that it takes."
        ) from error


def _eager() -> AbstractContextManager[Any]:
    """Keeps torch.compile() out. Its import takes a second, so it is left alone if nothing has used it."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts all modules into eval mode within the block. Sets the flags directly, since an eval() may do more."""
    before = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in before:
            module.training = False
        yield
    finally:
        for module, training in before:
            module.training = training


def groups_of(model: nn.Module, targets: Sequence[Target], batch: Batch) -> list[Group]:
    """Runs one batch to find the layers that get the same tensors, in the order in which they first run.

    Layers that do not run are in no group.
    """
    seen: dict[Target, list[Any]] = {}
    kept: list[Tensor] = []  # so that no two tensors have the same address

    def note(target: Target, x: Tensor) -> None:
        kept.append(x)
        seen.setdefault(target, []).append(_identity(x))

    with hooked({target: target.module for target in targets}, note), evaluating(model):
        call(model, batch)
    groups: dict[Any, Group] = {}
    for target, inputs in seen.items():
        alone = target if target.kind != LINEAR else None
        key = (tuple(inputs), alone)
        groups.setdefault(key, Group([], _width(target), len(inputs))).members.append(target)
    return list(groups.values())


def passes_of(groups: Sequence[Group], memory: int) -> Iterator[list[Group]]:
    """Divides the groups into passes whose moments fit into the memory. A group that does not fit has its own pass."""
    part: list[Group] = []
    for group in groups:
        if part and sum(each.bytes for each in part) + group.bytes > memory:
            yield part
            part = []
        part.append(group)
    if part:
        yield part


@dataclass
class Pass:
    """The statistics of some groups, over the batches that have been added so far."""

    groups: list[Group]
    done: int = 0
    statistics: list[Moments | TokenCounts] = field(default_factory=list)
    waiting: dict[int, list[Any]] = field(default_factory=dict)
    """Inputs that are not in the statistics yet, by group. A product of many rows at once is faster."""

    def __post_init__(self) -> None:
        self.statistics = self.statistics or [group.empty() for group in self.groups]

    def finish(self) -> None:
        """Adds the inputs that wait."""
        for index in list(self.waiting):
            self._flush(index)

    def run(self, model: nn.Module, batches: Sequence[Batch], after: Callable[["Pass"], None] | None = None) -> None:
        """Adds the batches that are not added yet. `after` is called after each of them.

        Raises:
            UsageError: the model does not run on a batch, or a layer got values that are not finite.
        """
        by_leader = {group.leader: index for index, group in enumerate(self.groups)}
        by_member = {member: group.leader for group in self.groups for member in group.members}
        state = _State()

        def add(target: Target, x: Tensor) -> None:
            leader = by_member[target]
            if leader is not target:
                state.follow(leader, x)
                return
            state.lead(target, x)
            for part in rows_of(target, x, state.mask):
                self._add(by_leader[target], part)

        with hooked({target: target.module for target in by_member}, add), evaluating(model):
            for batch in steps(batches[self.done :], "reading calibration data"):
                state.begin(mask_of(batch))
                call(model, batch)
                self.done += 1
                if self.done == len(batches):
                    self.finish()
                if after is not None:
                    after(self)

    def _add(self, index: int, part: Any) -> None:
        group = self.groups[index]
        rows = part if group.leader.kind == TABLE else part.reshape(-1, part.shape[-1])
        waiting = self.waiting.setdefault(index, [])
        waiting.append(rows)
        if group.leader.kind == TABLE or sum(map(len, waiting)) >= group.width:
            self._flush(index)

    def _flush(self, index: int) -> None:
        waiting = self.waiting.pop(index)
        try:
            self.statistics[index].add(waiting[0] if len(waiting) == 1 else np.concatenate(waiting))
        except UsageError as error:
            raise UsageError(f"{self.groups[index].leader.name}: {error}") from None

    def of(self) -> dict[Target, Moments | TokenCounts]:
        """The statistics of each target."""
        pairs = zip(self.groups, self.statistics, strict=True)
        return {member: statistics for group, statistics in pairs for member in group.members}


class _State:
    """What happened within one batch: the padding, and the tensors that leaders have added."""

    mask: Tensor | None = None

    def begin(self, mask: Tensor | None) -> None:
        self.mask = mask
        self._led: dict[Target, list[Tensor]] = {}

    def lead(self, target: Target, x: Tensor) -> None:
        self._led.setdefault(target, []).append(x)

    def follow(self, leader: Target, x: Tensor) -> None:
        """Checks that the leader had this tensor too."""
        if not any(_identity(x) == _identity(other) for other in self._led.get(leader, ())):
            raise UsageError(
                f"the layers that share the input of {leader.name} differ between batches. "
                "Give batches that take the same path through the model."
            )


@contextmanager
def hooked(modules: Mapping[Target, nn.Module], note: Callable[[Target, Tensor], None]) -> Iterator[None]:
    """Calls note(target, x) with each input x of the module of a target, within the block."""
    with ExitStack() as stack:
        for target, own in modules.items():

            def hook(
                module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any], target: Target = target
            ) -> None:
                x = args[0] if args else next(iter(keywords.values()), None)
                if isinstance(x, Tensor):
                    note(target, x.detach())

            handle = own.register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield


def _identity(x: Tensor) -> Any:
    return x.data_ptr(), tuple(x.shape), x.stride(), x.dtype, x.device, x._version


def _width(target: Target) -> int:
    module = target.module
    if isinstance(module, nn.Embedding):
        return module.num_embeddings
    if isinstance(module, nn.Conv2d):
        return module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
    return trained_linear(nn.Linear, module).in_features


def rows_of(target: Target, x: Tensor, mask: Tensor | None) -> Iterator[Any]:
    """The inputs of a layer as numpy arrays (..., n), part by part, without padding; for an embedding the indices."""
    if target.kind == CONVOLUTION:
        yield from _patches(target.module, x)
        return
    leading = x.shape if target.kind == TABLE else x.shape[:-1]
    if mask is not None and leading[: mask.ndim] == mask.shape:
        x = x[mask.to(x.device)]
    yield (x if target.kind == TABLE or x.dtype == torch.float32 else x.double()).cpu().numpy().copy()


def _patches(module: Any, x: Tensor) -> Iterator[Any]:
    """The inputs of a convolution as vectors of one patch of one group of channels, in the order of its weight."""
    x = x[None] if x.ndim == 3 else x
    padding = module._reversed_padding_repeated_twice
    x = functional.pad(x, padding, "constant" if module.padding_mode == "zeros" else module.padding_mode)
    for image in torch.split(x, max(1, _ROWS // max(1, x.shape[-1] * x.shape[-2]))):
        columns = functional.unfold(image.double(), module.kernel_size, module.dilation, 0, module.stride)
        parts = columns.reshape(len(image), module.groups, -1, columns.shape[-1])
        yield parts.transpose(2, 3).flatten(0, 2).cpu().numpy()


def mask_of(batch: Batch) -> Tensor | None:
    """The positions of a batch that are not padding, (N, S) bool; None if the batch does not say."""
    mask = batch.get("attention_mask") if hasattr(batch, "keys") else None
    if mask is None:
        return None
    mask = torch.as_tensor(mask)
    return mask.bool() if mask.ndim == 2 and not mask.is_floating_point() else None


def _arguments(batch: Batch, device: torch.device) -> tuple[list[Any], dict[str, Any]]:
    def moved(value: Any) -> Any:
        value = torch.as_tensor(value) if isinstance(value, np.ndarray) else value
        return value.to(device, copy=True) if isinstance(value, Tensor) else value

    if hasattr(batch, "keys"):
        return [], {name: moved(batch[name]) for name in list(batch.keys())}
    return [moved(value) for value in (batch if isinstance(batch, tuple | list) else (batch,))], {}
