"""Tensors that torch computes before each use: parametrizations, weight norm, spectral norm and pruning."""

import contextlib
from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def effective_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Returns the current computed tensors of `module`, by name, without its submodules. Does not change the module.

    Spectral norm is computed as in eval mode, which does not advance its power iteration.
    """
    tensors: dict[str, Tensor] = {}
    if is_parametrized(module):
        parametrizations = module.parametrizations
        assert isinstance(parametrizations, nn.ModuleDict)
        with _evaluated(parametrizations):
            tensors.update({name: parametrization() for name, parametrization in parametrizations.items()})
    for hook in computing_hooks(module).values():
        if isinstance(hook, BasePruningMethod):
            tensors[hook._tensor_name] = hook.apply_mask(module)  # type: ignore[no-untyped-call]
        elif isinstance(hook, SpectralNorm):
            tensors[hook.name] = hook.compute_weight(module, do_power_iteration=False)
        elif isinstance(hook, WeightNorm):
            tensors[hook.name] = hook.compute_weight(module)
    return tensors


def make_plain(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Replaces the computed tensors of `module` by parameters with the values of `tensors`, which is the result of
    effective_tensors(module).
    """
    for key in computing_hooks(module):
        del module._forward_pre_hooks[key]
    if is_parametrized(module):
        del module._modules["parametrizations"]
        module.__class__ = type(module).__bases__[0]  # torch creates a subclass with a property for each tensor
    for name, tensor in tensors.items():
        vars(module).pop(name, None)
        module.register_parameter(name, nn.Parameter(tensor.detach().clone(), requires_grad=tensor.requires_grad))


def computing_hooks(module: nn.Module) -> dict[int, object]:
    """Returns the pre-forward hooks of torch.nn.utils.prune, weight_norm and spectral_norm."""
    kinds = (BasePruningMethod, SpectralNorm, WeightNorm)
    return {key: hook for key, hook in module._forward_pre_hooks.items() if isinstance(hook, kinds)}


@contextlib.contextmanager
def _evaluated(modules: nn.Module) -> Iterator[None]:
    """Puts all modules into eval mode within the block. Sets the flags directly, since an eval() may do more."""
    before = [(module, module.training) for module in modules.modules()]
    try:
        for module, _ in before:
            module.training = False
        yield
    finally:
        for module, training in before:
            module.training = training
