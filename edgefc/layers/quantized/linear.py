"""Quantised linear layer: a trained weight in codes of 2, 4 or 8 bits, multiplied without a dense copy in memory.

The exported node runs onnxruntime's MatMulNBits with int8 activations. edgefc/export/ops/quantized.py has the reasons.

Symbols: n inputs, m outputs, K stored inputs of each row: n padded to a multiple of the group.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.fitting.quantized import QuantizedFit
from edgefc.layers.common.entry import linear
from edgefc.layers.common.no_weight import no_weight
from edgefc.layers.common.onnx_node import Attribute, check_width, layer_node, sizes, zero_bias
from edgefc.layers.common.seed_reading import draw_seed
from edgefc.layers.common.stored import StoredWeights
from edgefc.layers.common.trained import trained_linear
from edgefc.layers.quantized import CLAIM, PAPER, packing
from edgefc.layers.quantized.rotation import HadamardRotation


class QuantizedLinear(StoredWeights):
    """x W^T + bias with W in `bits` bits, one float16 scale for each `group` inputs of a row.

    For n = m = 4096, 4 bits and groups of 32, the weight takes 9,437,184 bytes; float32 takes 67,108,864. The codes and
    scales are buffers, and only the bias can be trained. The layer computes in the dtype of its input, from the numbers
    that the codes stand for.

    With a seed, the inputs are rotated first: W is stored for x D H / sqrt(block), see rotation.py. `rotation` is then
    a submodule, which stores the seed, and None otherwise.

    The exported file rounds the inputs to int8, as MatMulNBits does when it is fast: a relative error of 0.5 % in each
    layer. export(bodies={"QuantizedLinear": "dequantized"}) writes a file without this error that needs the memory
    and the time of a dense layer. 4 and 8 bits run from onnxruntime 1.22 on. 2 bits run from 1.28 on, and are
    fast from 1.31 on in groups of 32, 64 or 128.

    Shapes:
        codes   (m, K / group, group * bits / 8) uint8, packed as in packing.py
        scales  (m, K / group) float16          bias    (m,) or None
        x       (..., n)                        y       (..., m)

    Raises:
        ShapeError: a size below 1.
        UsageError: bits other than 2, 4 or 8, or a group other than 16, 32, 64, 128 or 256.
    """

    weight = property(no_weight)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        bits: int = 4,
        group: int = 32,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_features, self.out_features = sizes(name, in_features, out_features)
        self.bits, self.group = packing.check_storage(name, bits, group)
        self.rotation = None if seed is None else HadamardRotation(self.in_features, seed=seed, device=device)
        groups = -(-self._width // self.group)
        self._store(device, dtype, **packing.buffers((self.out_features, groups), self.bits, self.group, device))
        self.bias = nn.Parameter(torch.empty(self.out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    codes: Tensor
    scales: Tensor

    def reset_parameters(self) -> None:
        """Draws uniform codes with the variance of torch.nn.Linear's weight, and the bias as torch.nn.Linear does."""
        bound = 1 / math.sqrt(self.in_features)
        packing.draw(self.codes, self.scales, self.bits, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        if self.rotation is not None:
            x = self.rotation(x)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        return nn.functional.linear(x, self._values(x.dtype), self.bias)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the weight (m, n) for inputs that are not rotated."""
        stored = self._values(torch.float64)
        return (stored if self.rotation is None else self.rotation.back(stored)).to(self.like.dtype).contiguous()

    def multiply_adds(self) -> int:
        """Returns n m, plus the products of the rotation."""
        return self._width * self.out_features + (0 if self.rotation is None else self.rotation.multiply_adds())

    def stored_numbers(self) -> int:
        return packing.numbers(self.codes, self.scales, self.bits)

    @classmethod
    def from_fit(cls, fit: QuantizedFit, like: nn.Module) -> "QuantizedLinear":
        """Returns the layer of a fit without a correction (CorrectedLinear.from_fit takes one).

        `like` is the linear layer that was fitted. Its dtype, device, mode and requires_grad are kept.

        Raises:
            UsageError: the fit has a correction, or other bits.
        """
        trained = trained_linear(cls, like)
        if fit.up.size:
            raise UsageError(f"the fit has a correction of rank {fit.up.shape[1]}. Use CorrectedLinear.from_fit.")
        where: dict[str, Any] = {"device": trained.weight.device, "dtype": trained.weight.dtype}
        layer = cls(
            fit.inputs, len(fit.codes), fit.bias is not None, bits=fit.bits, group=fit.group, seed=fit.seed, **where
        )
        packing.load(layer.codes, layer.scales, fit.codes, fit.scales, layer.bits, layer.group)
        packing.load_bias(layer.bias, fit.bias)
        return trained.copy_flags_to(layer)

    @classmethod
    def from_linear(cls, linear: nn.Module, *, bits: int = 8, group: int = 128) -> "QuantizedLinear":
        """Returns the layer with each weight of `linear` rounded to the nearest code.

        `linear` is a torch.nn.Linear or a transformers Conv1D. Its bias, dtype, device, mode and requires_grad are
        kept. The group is smaller if fewer inputs fill it. Below 8 bits, edgefc.replace rounds much better, because it
        uses what the inputs look like.
        """
        trained = trained_linear(cls, linear)
        bits, group = packing.check_storage(cls.__name__, bits, group)
        return cls.from_fit(packing.nearest(trained.weight, trained.bias, bits, group), linear)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"bits={self.bits}, group={self.group}"
        )

    @property
    def _width(self) -> int:
        """The inputs of the product: n, or the width of the rotation."""
        return self.in_features if self.rotation is None else self.rotation.width

    def _values(self, dtype: torch.dtype) -> Tensor:
        return packing.values(self.codes, self.scales, self.bits, dtype)[:, : self._width]

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.like, self.out_features) if self.bias is None else self.bias
        attributes: dict[str, Attribute] = {
            "in_features": self._width,
            "out_features": self.out_features,
            "bits": self.bits,
            "group": self.group,
        }
        weights = (self.codes, self.scales, bias)
        return layer_node(self, x, weights, attributes, (*x.shape[:-1], self.out_features), op="QuantizedLinear")


ENTRIES = (
    linear("QuantizedLinear, 8 bits", PAPER, CLAIM, lambda n, m: QuantizedLinear(n, m, bits=8, group=128)),
    linear("QuantizedLinear, 4 bits", PAPER, CLAIM, lambda n, m: QuantizedLinear(n, m, bits=4, group=32)),
    linear("QuantizedLinear, 2 bits", PAPER, CLAIM, lambda n, m: QuantizedLinear(n, m, bits=2, group=32)),
    linear(
        "QuantizedLinear, 4 bits, rotated", PAPER, CLAIM,
        lambda n, m: QuantizedLinear(n, m, bits=4, group=32, seed=draw_seed()),
    ),
)  # fmt: skip
