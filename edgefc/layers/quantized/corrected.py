"""A linear layer plus a correction of low rank, such as a quantised layer and what rounding removed from it."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError
from edgefc.fitting.half import HalfFit
from edgefc.fitting.quantized import QuantizedFit
from edgefc.layers.common.entry import linear
from edgefc.layers.common.no_weight import no_weight
from edgefc.layers.common.onnx_node import check_width
from edgefc.layers.common.trained import trained_linear
from edgefc.layers.quantized import CLAIM, PAPER
from edgefc.layers.quantized.half import HalfLinear
from edgefc.layers.quantized.linear import QuantizedLinear


class CorrectedLinear(nn.Module):
    """main(x) + up(down(x)): any linear layers, n inputs, m outputs, r between down and up.

    Only main has a bias. from_fit() makes main a QuantizedLinear, and down and up HalfLinear.

    Raises:
        ShapeError: the sizes of the three layers do not fit.
    """

    weight = property(no_weight)

    def __init__(self, main: nn.Module, down: nn.Module, up: nn.Module) -> None:
        super().__init__()
        sizes = [_sizes(layer) for layer in (main, down, up)]
        (n, m), (inputs, rank), (given, outputs) = sizes
        self.in_features, self.out_features, self.rank = n, m, rank
        if (inputs, outputs) != (n, m) or given != rank:
            shown = ", ".join(f"{n} -> {m}" for n, m in sizes)
            raise ShapeError(f"CorrectedLinear needs layers n -> m, n -> r and r -> m, got {shown}.")
        self.main, self.down, self.up = main, down, up

    @property
    def bias(self) -> Tensor | None:
        """The bias of main."""
        return self.main.bias  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        y: Tensor = self.main(x) + self.up(self.down(x))
        return y

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the dense matrix (m, n)."""
        main, down, up = (_dense(layer) for layer in (self.main, self.down, self.up))
        return main + up @ down

    def multiply_adds(self) -> int:
        """Returns those of main, plus r (n + m)."""
        own = getattr(self.main, "multiply_adds", None)
        main = self.in_features * self.out_features if own is None else int(own())
        return main + self.rank * (self.in_features + self.out_features)

    @classmethod
    def from_fit(cls, fit: QuantizedFit, like: nn.Module) -> "CorrectedLinear":
        """Returns the layer of a fit with a correction.

        `like` is the linear layer that was fitted. Its dtype, device, mode and requires_grad are kept.
        """
        trained = trained_linear(cls, like)
        plain = nn.Linear(1, 1, bias=False, device=trained.weight.device, dtype=trained.weight.dtype)
        down, up = (HalfLinear.from_fit(HalfFit(weight=each), plain) for each in (fit.down, fit.up))
        none = dataclasses.replace(fit, down=fit.down[:0], up=fit.up[:, :0])
        return cls(QuantizedLinear.from_fit(none, like), down, up).train(trained.training)


def _sizes(layer: Any) -> tuple[int, int]:
    return layer.in_features, layer.out_features


def _dense(layer: nn.Module) -> Tensor:
    matrix: Tensor = layer.weight if isinstance(layer, nn.Linear) else layer.dense()  # type: ignore[operator]
    return matrix


ENTRIES = (
    linear(
        "CorrectedLinear, 2 bits", PAPER, CLAIM,
        lambda n, m: CorrectedLinear(QuantizedLinear(n, m, bits=2), HalfLinear(n, 16, False), HalfLinear(16, m, False)),
    ),
)  # fmt: skip
