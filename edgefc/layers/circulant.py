"""Circulant layer: seeded sign flips, then a circulant matrix, applied by FFT.

Source: Cheng et al., "An Exploration of Parameter Redundancy in Deep Networks with Circulant Projections",
ICCV 2015, https://arxiv.org/abs/1502.03436. Block form: Ding et al., "CirCNN", https://arxiv.org/abs/1708.08917.

From the paper (by agreeing secondary sources): y = R D x, R[i, j] = r[(i - j) mod d], D = diag(+-1) drawn once
and frozen; fewer outputs than inputs keep the first ones. Reconstructions of ours, where the paper is silent or
was not to be had: more outputs than inputs pad the input with zeros to the number of outputs; the initialisation;
the signs, which come from a seed and are not stored.

Letters used in this file and in its lowering:
    n   inputs          m   outputs
    b   block length    p   blocks down, ceil(m / b)    q   blocks across, ceil(n / b)
"""

import math
import operator

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError
from edgefc.generator import check_seed
from edgefc.layers import seeded
from edgefc.layers.symbolic import check_width, is_size, layer_node, sizes, zero_bias


class CirculantLinear(nn.Module):
    """Multiply the last axis by the first m rows and n columns of p x q circulant blocks times seeded signs.

    block=None is the paper's layer, one circulant of length max(n, m). Blocks of up to min(n, m) store more: for
    n = m = 4096, one block stores 4,096 numbers, block=256 stores 65,536, a dense layer 16,777,216.

    Shapes:
        kernel  (p, q, b)   kernel[i, j] is the first column of circulant (i, j)
        bias    (m,) or None
        x       (..., n)    y (..., m)

    The seed of the signs is not in the state dict: build the layer with the seed it was trained with. float16 and
    bfloat16 inputs are transformed in float32, because half-precision FFTs need powers of two.

    Raises:
        ShapeError: a size below 1, or a block longer than max(n, m).
        UsageError: a seed that is not a whole number of 64 bits.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        block: int | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        in_features, out_features = sizes(type(self).__name__, in_features, out_features)
        longest = max(in_features, out_features)
        if block is not None and not (is_size(block) and block <= longest):
            raise ShapeError(
                f"CirculantLinear cannot cut in_features={in_features}, out_features={out_features} into circulants "
                f"of block={block}. Choose a block from 1 to {longest}, or none for a single circulant."
            )
        self.in_features, self.out_features = in_features, out_features
        self.block = longest if block is None else operator.index(block)
        self.seed = check_seed(seed)
        p, q = math.ceil(out_features / self.block), math.ceil(in_features / self.block)
        self.kernel = nn.Parameter(torch.empty(p, q, self.block, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw r from N(0, 1/n), so that unit-variance input gives unit-variance output; the bias is zero."""
        nn.init.normal_(self.kernel, std=1 / math.sqrt(self.in_features))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        if x.numel() == 0:  # FFT libraries refuse an empty batch
            return x.new_zeros(*x.shape[:-1], self.out_features)
        _, q, b = self.kernel.shape
        u = x.to(_fft_dtype(x.dtype))
        u = u * seeded.signs(self.seed, self.in_features, dtype=u.dtype, device=u.device)
        u = nn.functional.pad(u, (0, q * b - self.in_features)).reshape(*x.shape[:-1], q, b)
        spectrum = torch.fft.rfft(self.kernel.to(u.dtype))  # (p, q, b // 2 + 1)
        product = torch.einsum("pqf,...qf->...pf", spectrum, torch.fft.rfft(u))
        y: Tensor = torch.fft.irfft(product, n=b).flatten(-2)[..., : self.out_features].to(x.dtype)
        return y if self.bias is None else y + self.bias

    @torch.no_grad()
    def dense(self) -> Tensor:
        """The same map as one (m, n) matrix, read entry by entry from the kernel and not from forward()."""
        p, q, b = self.kernel.shape
        row, column = torch.arange(b, device=self.kernel.device)[:, None], torch.arange(b, device=self.kernel.device)
        blocks = self.kernel[:, :, (row - column) % b]  # (p, q, b, b)
        matrix = blocks.permute(0, 2, 1, 3).reshape(p * b, q * b)[: self.out_features, : self.in_features]
        return matrix * seeded.signs(self.seed, self.in_features, dtype=matrix.dtype, device=matrix.device)

    @classmethod
    @torch.no_grad()
    def from_linear(cls, linear: nn.Linear, *, block: int | None = None, seed: int = 0) -> "CirculantLinear":
        """The circulant layer nearest to a trained linear layer in the Frobenius norm; the bias is kept.

        Signs are orthogonal, so the nearest kernel is the mean of the sign-flipped weight along each wrapped
        diagonal, over the entries that the layer uses.
        """
        m, n = linear.weight.shape
        layer = cls(
            n,
            m,
            linear.bias is not None,
            block=block,
            seed=seed,
            device=linear.weight.device,
            dtype=linear.weight.dtype,
        )
        p, q, b = layer.kernel.shape
        signs = seeded.signs(seed, n, dtype=torch.float64, device=linear.weight.device)
        total = _diagonal_sums(linear.weight.double() * signs, p, q, b)
        uses = _diagonal_sums(torch.ones(m, n, dtype=torch.float64, device=linear.weight.device), p, q, b)
        layer.kernel.copy_(total / uses.clamp(min=1))
        if layer.bias is not None:
            layer.bias.copy_(linear.bias)
        return layer

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"block={self.block}, seed={self.seed}"
        )

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.kernel, self.out_features) if self.bias is None else self.bias
        attributes = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "block": self.block,
            "sign_seed": self.seed,
        }
        return layer_node(self, x, (self.kernel, bias), attributes, (*x.shape[:-1], self.out_features))


def _fft_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _diagonal_sums(weight: Tensor, p: int, q: int, b: int) -> Tensor:
    """Sum of weight (m, n) over (i - j) mod b within each block, outside counted as zero: (p, q, b)."""
    m, n = weight.shape
    blocks = nn.functional.pad(weight, (0, q * b - n, 0, p * b - m)).reshape(p, b, q, b).permute(0, 2, 1, 3)
    row, column = torch.arange(b, device=weight.device)[:, None], torch.arange(b, device=weight.device)
    diagonal = ((row - column) % b).flatten()
    sums = torch.zeros(p, q, b, dtype=weight.dtype, device=weight.device)
    return sums.index_add(2, diagonal, blocks.reshape(p, q, b * b))
