"""The modules of student and teacher whose outputs are matched, beside the outputs of the models.

They are chosen without help: modules of the same name, whose outputs have the same shape. Preferred are siblings of one
class, such as the blocks of a transformer.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from edgefc.replacing.measuring import named
from edgefc.replacing.statistics import Batch, call, evaluating

MOST = 3
"""Modules that are matched at most."""

_WRAPPERS = ("_fsdp_wrapped_module.", "_orig_mod.")


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the modules by their names without what FSDP and torch.compile() insert."""
    found = {}
    for name, module in model.named_modules():
        for part in _WRAPPERS:
            name = f"{name}.".replace(part, "").rstrip(".")
        found[name] = module  # the wrapped module comes after its wrapper
    return found


@contextmanager
def recorded(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Within the block, notes the outputs of the modules of these names, by name. Of several tensors, the first."""
    modules, seen = modules_of(model), dict[str, list[Tensor]]()
    with ExitStack() as stack:
        for name in names:

            def note(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
                tensor = next((each for _, each in named(output)), None)
                seen.setdefault(name, []).extend([] if tensor is None else [tensor])

            stack.callback(modules[name].register_forward_hook(note).remove)
        yield seen


def choose(student: nn.Module, teacher: nn.Module, batch: Batch) -> list[str]:
    """Returns the names of the modules to match, in the order in which they run: at most MOST."""
    theirs, outputs = _run(teacher, batch)
    ours, _ = _run(student, batch)
    modules = modules_of(teacher)
    common = [
        name
        for name, tensors in theirs.items()
        if len(tensors) == 1 == len(ours.get(name, ())) and tensors[0].shape == ours[name][0].shape
        and tensors[0].ndim > 1
    ]  # fmt: skip
    groups: dict[tuple[str, type], list[str]] = {}
    for name in common:
        groups.setdefault((name.rpartition(".")[0], type(modules[name])), []).append(name)
    siblings = [group for group in groups.values() if len(group) > 1]
    chosen = max(
        siblings, key=lambda group: _numbers(modules, group), default=[each for each in common if "." not in each]
    )
    last = {(each.data_ptr(), each.shape) for each in outputs}
    inner = [name for name in chosen if (theirs[name][0].data_ptr(), theirs[name][0].shape) not in last]
    count = min(MOST, len(inner))
    return [inner[(index + 1) * len(inner) // count - 1] for index in range(count)]


def _run(model: nn.Module, batch: Batch) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
    """The outputs of all modules but the model itself, and those of the model."""
    with evaluating(model), recorded(model, [name for name in modules_of(model) if name]) as seen:
        outputs = [each for _, each in named(call(model, batch))]
    return seen, outputs


def _numbers(modules: dict[str, nn.Module], names: Sequence[str]) -> int:
    return sum(each.numel() for name in names for each in modules[name].parameters())
