"""Training through the codes of stored layers, by the straight-through estimator.

Within latents(), each stored layer computes from trained float32 numbers instead of its buffers: a number is rounded to
the nearest code in the forward pass, and its gradient is that of the rounded number. The scales are trained, too. Both
are rounded as they will be stored, so that store() changes nothing that the layer computes.

Source: Bengio, Léonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
Computation", arXiv 1308.3432. The scales are ours: those of Esser et al., "Learned Step Size Quantization", arXiv
1902.08153, made small models worse here (README.md).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgefc.layers.int3 import packing as int3
from edgefc.layers.int3.linear import Int3Linear
from edgefc.layers.quantized import packing
from edgefc.layers.quantized.conv import QuantizedConv2d
from edgefc.layers.quantized.embedding import QuantizedEmbedding
from edgefc.layers.quantized.half import HalfLinear
from edgefc.layers.quantized.half_conv import HalfConv2d
from edgefc.layers.quantized.half_embedding import HalfEmbedding
from edgefc.layers.quantized.linear import QuantizedLinear
from edgefc.layers.quantized.lstm import _QuantizedLayer

NAME = "_latent"
"""The name of the submodule that holds the trained numbers of a stored layer."""


class Codes(nn.Module):
    """Rows of codes with a scale for each group.

    The weights count in steps of `unit`, the size of a scale of the layer, and not of their own scale, so that a scale
    can be trained without a change of its codes. The scales are multiplied by `spread`, the size of a code. So a
    learning rate means the same for weights, scales and the weights of other layers.

    Shapes:
        weight  (R, G, group) float32: code * unit      scales  (R, G) float32: scale * spread
    """

    def __init__(self, steps: Tensor, scales: Tensor, bits: int) -> None:
        super().__init__()
        self.low, self.high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        codes, wide = steps.float(), scales.float()
        self.unit, self.spread = (float(each.square().mean().sqrt()) or 1.0 for each in (wide, codes))
        self.weight = nn.Parameter(codes * self.unit)
        self.scales = nn.Parameter(wide * self.spread)

    def values(self) -> Tensor:
        """Returns the numbers (R, G group)."""
        return self._rounded(self.weight, self.scales)

    def rows(self, x: Tensor) -> Tensor:
        """Returns the numbers of the rows x (...): (..., G group)."""
        weight = nn.functional.embedding(x, self.weight.flatten(1)).reshape(*x.shape, *self.weight.shape[1:])
        return self._rounded(weight, nn.functional.embedding(x, self.scales))

    @torch.no_grad()
    def stored(self) -> tuple[Tensor, Tensor]:
        """Returns the codes (R, G, group) as whole numbers, `low` the lowest, and the scales in float16."""
        return (self.weight / self.unit).round().clamp(self.low, self.high), (self.scales / self.spread).half()

    def _rounded(self, weight: Tensor, scales: Tensor) -> Tensor:
        steps, sizes = weight / self.unit, scales / self.spread
        rounded: Tensor = _Rounded.apply(steps, sizes, self.low, self.high)  # type: ignore[no-untyped-call]
        return rounded.flatten(-2)


class Halves(nn.Module):
    """Numbers that are stored in float16."""

    def __init__(self, half: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(half.float())

    def values(self) -> Tensor:
        return _Half.apply(self.weight)  # type: ignore[no-any-return, no-untyped-call]

    def rows(self, x: Tensor) -> Tensor:
        return _Half.apply(nn.functional.embedding(x, self.weight))  # type: ignore[no-any-return, no-untyped-call]


class _Rounded(torch.autograd.Function):
    """code * scale. The gradient of a number is that of its rounded value within the range of the codes, and 0 outside.
    That of a scale is exact."""

    @staticmethod
    def forward(ctx: Any, steps: Tensor, scales: Tensor, low: int, high: int) -> Tensor:
        codes, wide = steps.round().clamp_(low, high), scales.half().float().unsqueeze(-1)
        ctx.save_for_backward(codes.to(torch.int8), (steps - codes).abs() <= 0.5, wide)
        return codes * wide

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (gradient,), (codes, inside, wide) = gradients, ctx.saved_tensors
        return gradient * inside * wide, (gradient * codes).sum(-1), None, None


class _Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return weight.half().float()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        gradient: Tensor = gradients[0]
        return gradient


@dataclass(frozen=True)
class _Part:
    """One matrix of a stored layer.

    method       the method of the layer that returns the matrix
    make         layer -> its trained numbers
    replacement  (layer, trained numbers) -> what replaces the method
    store        writes the trained numbers into the buffers of the layer
    name         of the submodule that holds the trained numbers
    """

    method: str
    make: Callable[[Any], Any]
    replacement: Callable[[Any, Any], Callable[..., Tensor]]
    store: Callable[[Any, Any], None]
    name: str = NAME


def _codes(names: tuple[str, str]) -> Callable[[Any], Codes]:
    def make(layer: Any) -> Codes:
        packed, scales = (layer.get_buffer(name) for name in names)
        steps = packing.unpack(packed, layer.bits).to(torch.int16) - 2 ** (layer.bits - 1)
        return Codes(steps, scales, layer.bits)

    return make


def _store_codes(names: tuple[str, str]) -> Callable[[Any, Codes], None]:
    def store(layer: Any, latent: Codes) -> None:
        codes, scales = latent.stored()
        whole = (codes - latent.low).to(torch.uint8).flatten(1)
        layer.get_buffer(names[0]).copy_(packing.pack(whole, layer.bits, layer.group))
        layer.get_buffer(names[1]).copy_(scales)

    return store


def _int3(layer: Int3Linear) -> Codes:
    codes = int3.unpack(layer.packed.cpu().numpy(), layer.out_features)
    scales = int3.unpack_scales(layer.scales.cpu().numpy(), layer.out_features)
    steps = torch.from_numpy(codes.astype(np.int16) - int3.ZERO).reshape(*scales.shape, layer.group)
    place = layer.packed.device
    return Codes(steps.to(place), torch.from_numpy(scales).to(place), 3)


def _store_int3(layer: Int3Linear, latent: Codes) -> None:
    codes, scales = latent.stored()
    whole = (codes - latent.low).to(torch.uint8).flatten(1)
    layer._store(whole.cpu().numpy(), scales.cpu().numpy())


def _store_half(layer: Any, latent: Halves) -> None:
    layer.half_weight.copy_(latent.weight)


def _matrix(columns: Callable[[Any], int], shape: Callable[[Any], tuple[int, ...]] | None = None) -> Any:
    """The replacement of a method dtype -> matrix."""

    def replacement(layer: Any, latent: Codes) -> Callable[[torch.dtype], Tensor]:
        def values(dtype: torch.dtype) -> Tensor:
            rows = latent.values()[:, : columns(layer)].to(dtype)
            return rows if shape is None else rows.reshape(shape(layer))

        return values

    return replacement


def _half_matrix(_layer: Any, latent: Halves) -> Callable[[torch.dtype], Tensor]:
    return lambda dtype: latent.values().to(dtype)


def _table(layer: Any, latent: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: latent.rows(x)[..., : layer.embedding_dim].to(layer.like.dtype)


_NAMES, _RECURRENT = ("codes", "scales"), ("codes_recurrent", "scales_recurrent")
_KINDS: dict[type[nn.Module], tuple[_Part, ...]] = {
    QuantizedLinear: (
        _Part("_values", _codes(_NAMES), _matrix(lambda layer: layer._width), _store_codes(_NAMES)),
    ),
    QuantizedConv2d: (
        _Part("_kernel", _codes(_NAMES), _matrix(lambda layer: layer.patch, lambda layer: layer.kernel_shape),
              _store_codes(_NAMES)),
    ),
    QuantizedEmbedding: (_Part("_rows", _codes(_NAMES), _table, _store_codes(_NAMES)),),
    _QuantizedLayer: (
        _Part("_matrix", _codes(_NAMES),
              _matrix(lambda layer: layer.input_size, lambda layer: (4, layer.hidden_size, layer.input_size)),
              _store_codes(_NAMES)),
        _Part("_recurrent_matrix", _codes(_RECURRENT),
              _matrix(lambda layer: layer.hidden_size, lambda layer: (4, layer.hidden_size, layer.hidden_size)),
              _store_codes(_RECURRENT), f"{NAME}_recurrent"),
    ),
    Int3Linear: (_Part("_values", _int3, _matrix(lambda layer: layer.padded_features), _store_int3),),
    HalfLinear: (_Part("_values", lambda layer: Halves(layer.half_weight), _half_matrix, _store_half),),
    HalfConv2d: (_Part("_kernel", lambda layer: Halves(layer.half_weight), _half_matrix, _store_half),),
    HalfEmbedding: (_Part("_rows", lambda layer: Halves(layer.half_weight), _table, _store_half),),
}  # fmt: skip
"""The stored layers. Layers that are made of others, such as CorrectedLinear, contain these."""


def stored_layers(model: nn.Module) -> list[nn.Module]:
    """Returns the layers of a model that latents() trains."""
    return [module for module in model.modules() if type(module) in _KINDS]


@contextmanager
def latents(model: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Within the block, the stored layers compute from trained numbers. Yields these: parameters in float32.

    At the end of the block, also after an exception, the layers store what they computed last.

    The numbers are submodules of the layers, and so among the parameters of the model.
    """
    opened: list[tuple[Any, _Part, nn.Module]] = []
    try:
        for layer in stored_layers(model):
            for part in _KINDS[type(layer)]:
                latent = part.make(layer)
                layer.add_module(part.name, latent)
                setattr(layer, part.method, part.replacement(layer, latent))
                opened.append((layer, part, latent))
        yield [parameter for _, _, latent in opened for parameter in latent.parameters()]
    finally:
        with torch.no_grad():
            for layer, part, latent in opened:
                part.store(layer, latent)
                delattr(layer, part.method)
                delattr(layer, part.name)
