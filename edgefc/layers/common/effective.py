"""Tensors that torch computes for a module before it uses them: parametrizations, weight and spectral norm, pruning."""

import contextlib
from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def effective_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The computed tensors of `module` itself by name, as of now. The module and its buffers stay as they are.

    Spectral norm is that of eval mode, which does not advance its power iteration.
    """
    found: dict[str, Tensor] = {}
    if is_parametrized(module):
        parametrizations = module.parametrizations
        assert isinstance(parametrizations, nn.ModuleDict)
        with _evaluated(parametrizations):
            found.update({name: parametrization() for name, parametrization in parametrizations.items()})
    for hook in _computing_hooks(module).values():
        if isinstance(hook, BasePruningMethod):
            found[hook._tensor_name] = hook.apply_mask(module)  # type: ignore[no-untyped-call]
        elif isinstance(hook, SpectralNorm):
            found[hook.name] = hook.compute_weight(module, do_power_iteration=False)
        elif isinstance(hook, WeightNorm):
            found[hook.name] = hook.compute_weight(module)
    return found


def make_plain(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Turn the computed tensors of `module` into parameters with the values of `tensors`: effective_tensors(module)."""
    for key in _computing_hooks(module):
        del module._forward_pre_hooks[key]
    if is_parametrized(module):
        del module._modules["parametrizations"]
        module.__class__ = type(module).__bases__[0]  # torch makes a subclass that has a property for each tensor
    for name, tensor in tensors.items():
        vars(module).pop(name, None)
        module.register_parameter(name, nn.Parameter(tensor.detach().clone(), requires_grad=tensor.requires_grad))


def _computing_hooks(module: nn.Module) -> dict[int, object]:
    """The hooks that compute tensors ahead of each forward: torch.nn.utils.prune, weight_norm and spectral_norm."""
    kinds = (BasePruningMethod, SpectralNorm, WeightNorm)
    return {key: hook for key, hook in module._forward_pre_hooks.items() if isinstance(hook, kinds)}


@contextlib.contextmanager
def _evaluated(modules: nn.Module) -> Iterator[None]:
    """Within the block no module is in training mode. Flags are set one by one, since eval() may do more than that."""
    before = [(module, module.training) for module in modules.modules()]
    try:
        for module, _ in before:
            module.training = False
        yield
    finally:
        for module, training in before:
            module.training = training
