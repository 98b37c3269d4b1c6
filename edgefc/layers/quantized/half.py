"""Linear layer with its weight in float16. The runtime converts it to float32 when it loads the file."""

import math

import torch
from torch import Tensor, nn

from edgefc.fitting.half import HalfFit
from edgefc.layers.common.entry import linear
from edgefc.layers.common.no_weight import no_weight
from edgefc.layers.common.onnx_node import Attribute, check_width, layer_node, sizes, zero_bias
from edgefc.layers.common.stored import StoredWeights
from edgefc.layers.common.trained import trained_linear
from edgefc.layers.quantized import CLAIM, PAPER, halves


class HalfLinear(StoredWeights):
    """x W^T + bias with W in float16. The layer computes in the dtype of its input.

    A file has half the bytes of a dense layer. In memory, and in time, it is a dense layer.

    Shapes:
        half_weight     (m, n) float16      bias    (m,) or None
        x               (..., n)            y       (..., m)

    Raises:
        ShapeError: a size below 1.
    """

    half_weight: Tensor
    weight = property(no_weight)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = sizes(type(self).__name__, in_features, out_features)
        self._store(device, dtype, half_weight=halves.empty(self.out_features, self.in_features, device=device))
        self.bias = nn.Parameter(torch.empty(self.out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weight and the bias as torch.nn.Linear does."""
        bound = 1 / math.sqrt(self.in_features)
        for tensor in (self.half_weight, self.bias):
            if tensor is not None:
                nn.init.uniform_(tensor, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        return nn.functional.linear(x, self._values(x.dtype), self.bias)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the weight (m, n)."""
        return self.half_weight.to(self.like.dtype, copy=True)

    def multiply_adds(self) -> int:
        """Returns n m."""
        return self.in_features * self.out_features

    @classmethod
    def from_fit(cls, fit: HalfFit, like: nn.Module) -> "HalfLinear":
        """Returns the layer of a fit. `like` is the linear layer that was fitted. Its dtype, device, mode and
        requires_grad are kept.
        """
        trained = trained_linear(cls, like)
        m, n = fit.weight.shape
        layer = cls(n, m, fit.bias is not None, device=trained.weight.device, dtype=trained.weight.dtype)
        halves.load(layer, fit)
        return trained.copy_flags_to(layer)

    @classmethod
    def from_linear(cls, linear: nn.Module) -> "HalfLinear":
        """Returns the layer with the weight of `linear` rounded to float16.

        `linear` is a torch.nn.Linear or a transformers Conv1D. Its bias, dtype, device, mode and requires_grad are
        kept.

        Raises:
            UsageError: a weight is larger than 65504.
        """
        trained = trained_linear(cls, linear)
        return cls.from_fit(halves.fit(trained.weight, trained.bias), linear)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def _values(self, dtype: torch.dtype) -> Tensor:
        return self.half_weight.to(dtype)

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.like, self.out_features) if self.bias is None else self.bias
        attributes: dict[str, Attribute] = {"in_features": self.in_features, "out_features": self.out_features}
        shape = (*x.shape[:-1], self.out_features)
        return layer_node(self, x, (self.half_weight, bias), attributes, shape, op="HalfLinear")


ENTRIES = (linear("HalfLinear", PAPER, CLAIM, HalfLinear),)
