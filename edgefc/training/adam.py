"""Adam on plain tensors, which are this rank's shares under FSDP.

The first use of a torch.optim.Optimizer imports torch's compiler, which takes seconds.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

BETAS = (0.9, 0.95)


class Adam:
    """The moments of some values.

    Attributes:
        first, second, steps  for each value: the moments, and how often it was changed
    """

    def __init__(self, values: Sequence[Tensor]) -> None:
        self.first = [torch.zeros_like(each) for each in values]
        self.second = [torch.zeros_like(each) for each in values]
        self.steps = [torch.zeros((), device=each.device) for each in values]

    @torch.no_grad()
    def step(self, values: Sequence[Tensor], gradients: Sequence[Tensor | None], rate: float) -> None:
        """Changes the values that have a gradient."""
        chosen = [index for index, each in enumerate(gradients) if each is not None and each.numel()]
        if not chosen:
            return
        adam(
            [values[index] for index in chosen],
            [each for index in chosen if (each := gradients[index]) is not None],
            [self.first[index] for index in chosen],
            [self.second[index] for index in chosen],
            [],
            [self.steps[index] for index in chosen],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Returns the moments by name, for load()."""
        named = {"first": self.first, "second": self.second, "steps": self.steps}
        return {f"{name}.{index}": each for name, values in named.items() for index, each in enumerate(values)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Sets the moments."""
        for name, own in self.tensors().items():
            own.copy_(tensors[name])
