"""A linear layer with weights of 3 bits in groups along the inputs, whose inputs may be rotated.

Weights: Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", arXiv
2210.17323, https://arxiv.org/abs/2210.17323. edgefc.fitting.quantized computes them; from_linear() only rounds.

Rotation: the inputs, padded with zeros to K, times random signs, then Walsh-Hadamard transforms of blocks, as in
edgefc.fitting.rotation. The weights belong to rotated inputs. Nothing is stored but the seed.

Symbols: n inputs, m outputs, K the padded inputs, G = K / group.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import Self

from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.quantized import QuantizedFit
from edgefc.fitting.rotation import block_of
from edgefc.layers.common import seeded
from edgefc.layers.common.checkpoint import Seeded
from edgefc.layers.common.configuration import Configuration
from edgefc.layers.common.entry import OURS, linear
from edgefc.layers.common.no_weight import no_weight
from edgefc.layers.common.onnx_node import check_finite, check_width, is_size, layer_node, sizes, zero_bias
from edgefc.layers.common.seed_reading import draw_seed
from edgefc.layers.common.trained import trained_linear
from edgefc.layers.int3 import PAPER, packing

BITS = 3


class Int3Linear(Seeded):
    """Computes z W^T + bias, with W of 3 bits per weight, z the inputs x or, with a seed, the rotated inputs.

    W takes 3 + 16 / group bits per weight: 3.125 with the default group. It has no gradients; the bias and the inputs
    have. forward() computes W in the dtype of x in each call, so torch needs more time than with a dense layer. The
    native kernel reads the packed weights.

    The codes and scales are buffers, so state dicts contain them. half(), double() and similar calls do not convert
    them. The seed and whether there is a rotation are in the state dict, too.

    A new layer holds the rounded weights of a new torch.nn.Linear.

    Shapes:
        packed  (ceil(m / 16), K / 32, 192) uint8 and
        scales  (ceil(m / 16), G, 16) float16, see packing.py; K is n padded to a multiple of the group and, with a
                seed, of the block of the rotation, which is the power of two from n on, at most 128
        bias    (m,) or None
        x       (..., n)  y  (..., m)

    Raises:
        ShapeError: a size below 1, or a group that is not a power of two from 32 to 4096.
        UsageError: a seed that is not an integer from 0 to 2**64 - 1; from load_state_dict(), a checkpoint with another
            configuration.
    """

    packed: Tensor
    scales: Tensor

    weight = property(no_weight)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        group: int = 128,
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = sizes(type(self).__name__, in_features, out_features)
        self.group, self.rotated = _check_group(group), seed is not None
        self.block = block_of(self.in_features) if self.rotated else 1
        multiple = max(self.group, self.block)
        self.padded_features = -(-self.in_features // multiple) * multiple
        self._store_seed(0 if seed is None else seed, device)
        blocks, width = packing.blocks(self.out_features), self.padded_features
        packed = torch.zeros(blocks, width // packing.COLUMNS, packing.BYTES, dtype=torch.uint8, device=device)
        self.register_buffer("packed", packed)
        scales = torch.zeros(blocks, width // self.group, packing.ROWS, dtype=torch.float16, device=device)
        self.register_buffer("scales", scales)
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def configuration(self) -> Configuration:
        return {
            "layer": "Int3Linear",
            "in_features": self.in_features,
            "out_features": self.out_features,
            "group": self.group,
            "rotated": self.rotated,
        }

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the weights and the bias of a torch.nn.Linear and rounds the weights. device="meta" postpones this."""
        bound = 1 / math.sqrt(self.in_features)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)
        if not self.packed.is_meta:
            weight = torch.empty(self.out_features, self.in_features, device=self.packed.device)
            self._round(nn.init.uniform_(weight, -bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        return nn.functional.linear(self._rotated(x), self._values(x.dtype), self.bias)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the matrix (m, n) that the layer computes, in the dtype of the bias, or float32 without a bias."""
        dtype = torch.float32 if self.bias is None else self.bias.dtype
        values = self._values(dtype)
        if self.rotated:
            blocks = values.reshape(-1, self.block) @ _hadamard(self.block, values)
            values = blocks.reshape(values.shape) * self._signs(values) / math.sqrt(self.block)
        return values[:, : self.in_features]

    @classmethod
    @torch.no_grad()
    def from_linear(cls, linear: nn.Module, *, group: int = 128, seed: int | None = None) -> Self:
        """Rounds the weights of a trained linear layer to the nearest codes.

        `linear` is a torch.nn.Linear or a transformers Conv1D. Its bias, dtype, device, mode and requires_grad are
        kept. The errors are not compensated, as they are in a fit by GPTQ: prefer from_fit().

        Raises:
            UsageError: weights that are not finite, or outside of the range of float16 scales.
        """
        trained = trained_linear(cls, linear)
        check_finite(trained.weight)
        layer = cls(
            trained.in_features,
            trained.out_features,
            trained.bias is not None,
            group=group,
            seed=seed,
            device=trained.weight.device,
            dtype=trained.weight.dtype,
        )
        layer._round(trained.weight)
        if layer.bias is not None and trained.bias is not None:
            layer.bias.copy_(trained.bias)
        return trained.copy_flags_to(layer)

    @classmethod
    @torch.no_grad()
    def from_fit(cls, fit: QuantizedFit, like: nn.Module) -> Self:
        """Returns the layer of a fit, with the dtype, device, mode and requires_grad of `like`, the trained layer.

        Raises:
            UsageError: the fit does not have 3 bits, or it has a low-rank correction, which this layer does not hold.
        """
        trained = trained_linear(cls, like)
        if fit.bits != BITS or len(fit.down):
            raise UsageError(
                f"Int3Linear holds a fit of 3 bits without a correction, got {fit.bits} bits and a correction of rank "
                f"{len(fit.down)}. Choose another layer for this fit."
            )
        layer = cls(
            fit.inputs,
            len(fit.codes),
            fit.bias is not None,
            group=fit.group,
            seed=fit.seed,
            device=trained.weight.device,
            dtype=trained.weight.dtype,
        )
        layer._store(fit.codes, fit.scales)
        if layer.bias is not None and fit.bias is not None:
            layer.bias.copy_(torch.from_numpy(fit.bias))
        return trained.copy_flags_to(layer)

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per row: K m, and K times the block for a rotation by matrix products."""
        return self.padded_features * (self.out_features + (self.block if self.rotated else 0))

    def stored_numbers(self) -> int:
        """Returns the number of weights, padded inputs included, and of scales."""
        return self.out_features * (self.padded_features + self.padded_features // self.group)

    def extra_repr(self) -> str:
        seed = f", seed={self.seed}" if self.rotated else ""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"group={self.group}{seed}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """The codes and scales move to another device and keep their dtypes."""
        before = {name: self.get_buffer(name) for name in ("packed", "scales")}
        super()._apply(fn, recurse)
        for name, old in before.items():
            now = self.get_buffer(name)
            if now.dtype != old.dtype:
                self._buffers[name] = old.to(now.device)
        return self

    def _values(self, dtype: torch.dtype) -> Tensor:
        """The matrix of the codes, (m, K)."""
        words = self.packed.view(*self.packed.shape[:2], 3, packing.ROWS, 4)  # (blocks, units, 3, 16, 4)
        rest = words >> 6
        top = torch.stack([rest[:, :, 2] & 1, rest[:, :, 2] >> 1], 2) << 2
        pairs = torch.stack([words & 7, words >> 3 & 7], 3).flatten(2, 3)  # (blocks, units, 6, 16, 4)
        codes = torch.cat([pairs, rest[:, :, :2] | top], 2).permute(0, 3, 1, 2, 4)  # (blocks, 16, units, 8, 4)
        codes = codes.reshape(-1, self.padded_features // self.group, self.group)[: self.out_features]
        scales = self.scales.transpose(1, 2).flatten(0, 1)[: self.out_features]
        return ((codes.to(dtype) - packing.ZERO) * scales.to(dtype)[..., None]).flatten(1)

    def _rotated(self, x: Tensor) -> Tensor:
        """(..., n) -> (..., K)"""
        x = nn.functional.pad(x, (0, self.padded_features - self.in_features))
        if not self.rotated:
            return x
        signed = x * self._signs(x) / math.sqrt(self.block)
        return (signed.reshape(-1, self.block) @ _hadamard(self.block, x)).reshape(signed.shape)

    def _signs(self, like: Tensor) -> Tensor:
        return seeded.signs(self.traceable_seed, self.padded_features, dtype=like.dtype, device=like.device)

    def _round(self, weight: Tensor) -> None:
        """Stores the nearest codes of a weight (m, n). The value of the largest size in a group gets the code 0."""
        groups = self._rotated(weight.double()).reshape(self.out_features, -1, self.group)
        largest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
        scales = (-largest / packing.ZERO).to(torch.float16)
        if not scales.isfinite().all():
            raise UsageError(
                f"Int3Linear has float16 scales, which hold weights up to 262,016 in size, got "
                f"{float(largest.abs().max()):.6g}. Scale the weight down."
            )
        codes = torch.where(scales == 0, 0, groups / scales.double()).round().clamp(-4, 3) + packing.ZERO
        self._store(codes.flatten(1).to(torch.uint8).cpu().numpy(), scales.squeeze(-1).cpu().numpy())

    def _store(self, codes: packing.Bytes, scales: packing.Half) -> None:
        self.packed.copy_(torch.from_numpy(packing.pack(codes)))
        self.scales.copy_(torch.from_numpy(packing.pack_scales(scales)))

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(x, self.out_features) if self.bias is None else self.bias
        attributes = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "group": self.group,
            "rotated": int(self.rotated),
            "seed": self.seed if self.rotated else 0,
        }
        return layer_node(self, x, (self.packed, self.scales, bias), attributes, (*x.shape[:-1], self.out_features))


def _hadamard(block: int, like: Tensor) -> Tensor:
    """The Walsh-Hadamard matrix (block, block) of +1 and -1, in Sylvester's order."""
    matrix = torch.ones(1, 1, dtype=like.dtype, device=like.device)
    while len(matrix) < block:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


def _check_group(group: int) -> int:
    if is_size(group) and packing.LEAST_GROUP <= group <= packing.LARGEST_GROUP and not group & (group - 1):
        return int(group)
    raise ShapeError(
        f"Int3Linear does not support group={group!r}. Choose a power of two from {packing.LEAST_GROUP} to "
        f"{packing.LARGEST_GROUP}."
    )


ENTRIES = (linear("Int3Linear, rotated", PAPER, OURS, lambda n, m: Int3Linear(n, m, seed=draw_seed())),)
