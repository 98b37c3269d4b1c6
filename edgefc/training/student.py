"""The trained model: its parameters, their values and gradients, in one process or in several."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.training import ranks

LARGEST = 1.0
"""The norm to which the gradient is cut."""


class Student:
    """The student and what is trained in it.

    DistributedDataParallel and torch.compile() are looked through: gradients are averaged here, also those of the
    numbers that distil() adds. FSDP stays, and averages the gradients of the parameters that it holds.

    Attributes:
        given       the model as given
        model       the model that is run
        parameters  what is trained: first those of the model, then the numbers of stored layers
    """

    def __init__(self, given: nn.Module) -> None:
        self.given, self.model = given, unwrapped(given)
        self.sharded = any(_shards(module) for module in self.model.modules())
        self.own = [each for each in self.model.parameters() if each.requires_grad]
        self.latent: list[nn.Parameter] = []
        for name, each in self.model.named_parameters():
            if each.requires_grad and each.dtype not in (torch.float32, torch.float64):
                raise UsageError(
                    f"{name} of the student is {each.dtype}, which is too coarse for small steps. Train the model in "
                    "float32 (model.float()), with amp=True if it should be faster."
                )

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [*self.own, *self.latent]

    @property
    def device(self) -> torch.device:
        tensors = [*self.model.parameters(), *self.model.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    @torch.no_grad()
    def snapshot(self) -> list[Tensor]:
        """Returns a copy of the trained values, of this rank's share."""
        return [local(each).detach().clone() for each in self.parameters]

    @torch.no_grad()
    def restore(self, values: Sequence[Tensor]) -> None:
        """Sets the trained values."""
        for parameter, value in zip(self.parameters, values, strict=True):
            local(parameter).copy_(value)

    def values_and_gradients(self) -> tuple[list[Tensor], list[Tensor | None]]:
        """Returns this rank's share of the trained values, and of their gradients."""
        values = [local(each).detach() for each in self.parameters]
        return values, [None if each.grad is None else local(each.grad) for each in self.parameters]

    def average_gradients(self) -> None:
        """Averages the gradients over all ranks, as far as FSDP has not."""
        ranks.average(self.latent if self.sharded else self.parameters)

    @torch.no_grad()
    def cut_gradients(self) -> float:
        """Scales the gradient down to the norm LARGEST. Returns its norm before."""
        gradients = [local(each.grad) for each in self.parameters if each.grad is not None]
        norms = [torch.linalg.vector_norm(each, dtype=torch.float32) for each in gradients]
        squares: list[float] = torch.stack(norms).double().square().tolist() if norms else []
        if self.sharded:
            held = sum(each.grad is not None for each in self.own)
            squares = [*ranks.totals([sum(squares[:held])]), *squares[held:]]
        norm = math.sqrt(sum(squares))
        if norm > LARGEST:
            torch._foreach_mul_(gradients, LARGEST / norm)
        return norm


def unwrapped(model: nn.Module) -> nn.Module:
    """Returns the module in DistributedDataParallel, DataParallel and compiled modules."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif "_orig_mod" in model._modules:
            model = model.get_submodule("_orig_mod")
        else:
            return model


def local(tensor: Any) -> Tensor:
    """Returns this rank's share of a sharded tensor, or the tensor itself."""
    share: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return share


def _shards(module: nn.Module) -> bool:
    """Whether FSDP holds parameters of the module. By name, because torch takes a second to import its classes."""
    return bool({"FSDPModule", "FullyShardedDataParallel"} & {each.__name__ for each in type(module).__mro__})
