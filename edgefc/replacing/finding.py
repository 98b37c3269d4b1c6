"""Finds the layers of a model that a plan can name.

A layer that cannot be replaced is found too, with the reason. A module that the model uses under several names is one
layer. The projections of an nn.MultiheadAttention are layers with the names that they have in StructuredAttention:
self_attn.q_proj, k_proj, v_proj and out_proj.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from edgefc.errors import UsageError
from edgefc.layers.attention.conversion import PROJECTIONS, linears_of
from edgefc.layers.common.effective import computing_hooks
from edgefc.layers.common.trained import is_linear, trained_linear
from edgefc.plan.rules import Candidate
from edgefc.replacing.pairs import Pair, pairs_of

LINEAR, CONVOLUTION, TABLE, RECURRENT, PAIR, BOTTLENECK, OTHER = (
    "linear", "convolution", "embedding", "lstm", "feed-forward pair", "bottleneck", "other",
)  # fmt: skip


@dataclass(eq=False)
class Target:
    """One layer of a model.

    Attributes:
        names      every name of the layer in the model
        module     the layer; for a projection of an attention, a linear layer that shares its memory
        kind       one of the constants above
        aliases    further names by which a rule can match it: that of its attention
        problem    why it cannot be replaced; None if it can
        pair       the parts of a feed-forward pair
    """

    names: tuple[str, ...]
    module: nn.Module
    kind: str
    aliases: tuple[str, ...] = ()
    problem: str | None = None
    pair: Pair | None = None

    @property
    def name(self) -> str:
        return self.names[0]

    def candidates(self) -> Iterator[Candidate]:
        """The layer under each of its names."""
        types = [each.__name__ for each in type(self.module).__mro__ if each not in (object, nn.Module)]
        types += ["MultiheadAttention"] if self.aliases else []
        size = sum(each.numel() for each in self.module.parameters() if not is_lazy(each))
        only = ("Tied",) if self.kind in (PAIR, BOTTLENECK) else None
        for name in (*self.names, *self.aliases):
            yield Candidate(name, tuple(types), size, only)


@torch.no_grad()
def find(model: nn.Module) -> list[Target]:
    """Returns the layers of a model in the order of its modules.

    Raises:
        UsageError: not a torch.nn.Module.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"cannot replace the layers of a {type(model).__name__}. Pass a torch.nn.Module.")
    named = _names(model)
    users = _users(model, named)
    within = {module.out_proj for module in named if isinstance(module, nn.MultiheadAttention)}
    found = [target for module, names in named.items() if module not in within for target in _targets(module, names)]
    for target in found:
        target.problem = target.problem or _place_problem(model, target) or _sharing_problem(target, users, named)
    return found


def _names(model: nn.Module) -> dict[nn.Module, tuple[str, ...]]:
    named: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        named.setdefault(module, []).append(name)
    return {module: tuple(names) for module, names in named.items()}


def _targets(module: nn.Module, names: tuple[str, ...]) -> Iterator[Target]:
    for pair in pairs_of(module):
        yield Target(names, module, PAIR, pair=pair)
    if _is_bottleneck(module):
        yield Target(names, module, BOTTLENECK)
    if isinstance(module, nn.MultiheadAttention):
        yield from _projections(module, names)
    elif is_linear(module):
        yield Target(names, module, LINEAR, problem=_linear_problem(module))
    elif isinstance(module, nn.Conv2d):
        yield Target(names, module, CONVOLUTION, problem=_problem(module, nn.Conv2d))
    elif isinstance(module, nn.Embedding):
        yield Target(names, module, TABLE, problem=_problem(module, nn.Embedding))
    elif isinstance(module, nn.LSTM):
        yield Target(names, module, RECURRENT, problem=_problem(module, nn.LSTM))
    elif _looks_linear(module):
        yield Target(names, module, OTHER, problem=_other_problem(module))


def _projections(attention: nn.MultiheadAttention, names: tuple[str, ...]) -> Iterator[Target]:
    problem = _problem(attention, nn.MultiheadAttention)
    if attention.bias_k is not None or attention.add_zero_attn:
        option = "add_bias_kv" if attention.bias_k is not None else "add_zero_attn"
        problem = f"StructuredAttention does not support {option}=True"
    for projection, linear in zip(PROJECTIONS, linears_of(attention), strict=True):
        own = tuple(f"{name}.{projection}" if name else projection for name in names)
        yield Target(own, linear, LINEAR, aliases=names, problem=problem)


def _linear_problem(module: nn.Module) -> str | None:
    try:
        trained_linear(nn.Linear, module)
    except UsageError as error:
        text = str(error)
        return text.removeprefix("Linear can be made from a torch.nn.Linear, got ").rstrip(".")
    return _hook_problem(module)


def _problem(module: nn.Module, kind: type[nn.Module]) -> str | None:
    name = type(module).__name__
    tensors = [*module.parameters(), *module.buffers()]
    if type(module).forward is not kind.forward or "forward" in vars(module):
        return f"a {name} with an overridden forward"
    if any(map(is_lazy, tensors)):
        return f"a {name} without weights. Run it once, so that torch creates them"
    if any(tensor.is_meta for tensor in tensors):
        return f"a {name} on the meta device, which stores no values. Load its weights first"
    if not all(tensor.is_floating_point() for tensor in module.parameters()):
        return f"a {name} with weights of {next(module.parameters()).dtype}"
    if isinstance(module, nn.Embedding) and (module.max_norm is not None or module.scale_grad_by_freq or module.sparse):
        return f"a {name} with max_norm, scale_grad_by_freq or sparse"
    return _hook_problem(module)


def _hook_problem(module: nn.Module) -> str | None:
    """Hooks of users would be lost. Those of torch's own norms and pruning are part of the weight."""
    own = computing_hooks(module)
    hooks = [*(key for key in module._forward_pre_hooks if key not in own), *module._forward_hooks]
    if hooks or module._backward_hooks:
        return f"a {type(module).__name__} with hooks, which a replacement would not have. Remove the hooks first"
    return None


def _place_problem(model: nn.Module, target: Target) -> str | None:
    if "" in (*target.names, *target.aliases) and target.kind != PAIR:
        return "the model itself is this layer. Put it into an nn.Sequential first"
    for name in target.names:
        parts = name.split(".")[:-1]
        for depth in range(len(parts) + 1):
            try:
                parent = model.get_submodule(".".join(parts[:depth]))
            except AttributeError:  # below an attention that is not converted yet
                break
            if isinstance(parent, torch.jit.ScriptModule):
                return "it is part of a scripted module, which cannot be changed"
    return None


def _users(model: nn.Module, named: dict[nn.Module, tuple[str, ...]]) -> dict[Any, list[nn.Module]]:
    """The modules that hold each memory."""
    users: dict[Any, list[nn.Module]] = {}
    for module in named:
        for parameter in module._parameters.values():
            if parameter is not None:
                users.setdefault(_memory(parameter), []).append(module)
    return users


def _sharing_problem(
    target: Target, users: dict[Any, list[nn.Module]], named: dict[nn.Module, tuple[str, ...]]
) -> str | None:
    """A weight that another module uses too would be stored twice, and would no longer be trained as one."""
    if target.aliases or target.kind in (PAIR, BOTTLENECK):
        return None
    for module in target.module.modules():
        for parameter in module._parameters.values():
            others = [] if parameter is None else [each for each in users[_memory(parameter)] if each is not module]
            if others:
                other = named[others[0]][0]
                return f"its weight is shared with {other}. Give {other} its own weight first, or keep both"
    return None


def _memory(tensor: Tensor) -> Any:
    if is_lazy(tensor) or tensor.is_meta or tensor.layout != torch.strided or not tensor.numel():
        return id(tensor)
    return tensor.device, tensor.data_ptr()


def _is_bottleneck(module: nn.Module) -> bool:
    """A residual block as in torchvision, with equal channels before and after and without a downsampling."""
    parts = [getattr(module, name, None) for name in ("conv1", "bn1", "conv2", "bn2", "conv3")]
    one, _, _, _, three = parts
    return (
        all(isinstance(each, nn.Conv2d | nn.BatchNorm2d) for each in parts)
        and isinstance(one, nn.Conv2d)
        and isinstance(three, nn.Conv2d)
        and one.in_channels == three.out_channels
        and getattr(module, "downsample", None) is None
    )


def _looks_linear(module: nn.Module) -> bool:
    return isinstance(getattr(module, "in_features", None), int) and isinstance(
        getattr(module, "out_features", None), int
    )


def _other_problem(module: nn.Module) -> str:
    name = type(module).__name__
    if type(module).__module__.startswith("edgefc."):
        return f"it is a {name} already"
    return f"a {name}, which edgefc does not read. Convert it to a torch.nn.Linear first"
