"""PRP layer: a fixed random matrix, regenerated from a seed, scaled on both sides by trained vectors.

Source: Szorc, "Element-wise Modulation of Random Matrices for Efficient Neural Layers", arXiv 2512.13480,
https://arxiv.org/abs/2512.13480.

From the paper, according to secondary sources that agree: y = P'(x * alpha) * w + b. P is fixed and not trained, its
entries have variance 1/n, and it is Gaussian, sparse ternary, or orthogonal by QR of a Gaussian matrix. n + 2 m
parameters are trained. In the same sources the three ternary values are equally likely with s = sqrt(3/n), which has
variance 2/n. "ternary_thirds" is this distribution scaled to variance 1/n, like all others. The text of the paper on
the initialisation of alpha, w and b was not available.

From code that is probably by the author: ternary probabilities 1/6, 2/3, 1/6; uniform entries; alpha, w ~ N(1, 1/n),
b = 0; and an additional low-rank path, which is not in the paper.

Our reconstructions:

- P comes from the generator in edgefc/generator. There "gaussian" has 16 levels, "uniform" has 256, and ternary
  probabilities are multiples of 1/256.
- Rademacher signs and "sparse" (1/4, 1/2, 1/4) are not in the paper. They are cheap to regenerate.
- An orthogonal P with more outputs than inputs has orthogonal columns, scaled to entries of variance 1/n.
- "hadamard" is not in the paper. It is a seeded transform that replaces an orthogonal P, stores nothing and is fast. It
  is orthogonal if n = m is a power of two, and much less random than the others.

Symbols: n inputs, m outputs, r rank, P (m, n) with entries of variance 1/n.
"""

import math
import operator
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError
from edgefc.fitting.prp import PRPFit, nearest_prp
from edgefc.layers.common.checkpoint import Seeded
from edgefc.layers.common.configuration import Configuration
from edgefc.layers.common.entry import OURS, linear
from edgefc.layers.common.fits import FromFit, array, arrays, filled, sized, tensor
from edgefc.layers.common.no_weight import no_weight
from edgefc.layers.common.onnx_node import Attribute, check_width, is_size, layer_node, sizes, zero_bias
from edgefc.layers.common.trained import trained_linear
from edgefc.layers.prp import CLAIM, PAPER, matrices


class PRPLinear(FromFit, Seeded):
    """Computes ((x * in_scale) P^T) * out_scale + bias, with P regenerated from the seed.

    The layer stores n + 2 m parameters and a seed: 12,288 for n = m = 4096; a dense layer stores 16,781,312. It needs
    the multiply-adds of a dense layer: PRP saves memory, not multiplications. P is neither a parameter nor a buffer. It
    is generated on first use for the current device, dtype and seed, and kept as long as the layer exists. State dicts,
    copies and pickles do not contain it. Programs of torch.compile and torch.export generate it in each call. The
    state dict stores the seed, and load_state_dict() restores it (common/checkpoint.py). seed=None draws a seed from
    torch's generator.

    Two distributions work differently. "orthogonal" stores P, m n values, in the buffer `projection`, because the last
    bits of a QR decomposition depend on the machine. After loading, the stored P is used, and not the seed. "hadamard"
    needs no matrix, and about 4 N sqrt(N) multiply-adds instead of n m, where N is the next power of two; see
    matrices.py.

    rank=r adds (1/r) low_rank_out low_rank_in x, as the code above does with lora_alpha = 1. It is exported as two
    standard matrix products next to the node.

    Shapes:
        in_scale      (n,)      out_scale     (m,)      bias    (m,) or None
        projection    (m, n), with distribution="orthogonal"
        low_rank_in   (r, n)    low_rank_out  (m, r), with rank=r
        x             (..., n)  y             (..., m)

    Raises:
        ShapeError: a size below 1, or a rank that is not an integer from 0 to min(n, m).
        UsageError: an unknown distribution (edgefc.generator.CODEBOOKS, "orthogonal", "hadamard"), or a seed that is
            not an integer from 0 to 2**64 - 1; from load_state_dict(), a checkpoint with another configuration.
    """

    projection: Tensor | None

    weight = property(no_weight)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        distribution: str = "gaussian",
        seed: int | None = None,
        rank: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        in_features, out_features = sizes(type(self).__name__, in_features, out_features)
        self.in_features, self.out_features = in_features, out_features
        self.distribution, self._fixed = distribution, matrices.kind(distribution)
        self.rank = _check_rank(rank, min(in_features, out_features))
        self._store_seed(seed, device)

        def empty(*size: int) -> Tensor:
            return torch.empty(*size, device=device, dtype=dtype)

        self.in_scale = nn.Parameter(empty(in_features))
        self.out_scale = nn.Parameter(empty(out_features))
        self.bias = nn.Parameter(empty(out_features)) if bias else None
        self.low_rank_in = nn.Parameter(empty(self.rank, in_features)) if self.rank else None
        self.low_rank_out = nn.Parameter(empty(out_features, self.rank)) if self.rank else None
        stored = isinstance(self._fixed, matrices.Stored)
        self.register_buffer("projection", empty(out_features, in_features) if stored else None)
        self.reset_parameters()

    def configuration(self) -> Configuration:
        return {
            "layer": "PRPLinear",
            "in_features": self.in_features,
            "out_features": self.out_features,
            "distribution": self.distribution,
            "rank": self.rank,
        }

    def reset_parameters(self) -> None:
        """Draws the scales from N(1, 1/n): unit-variance input gives nearly unit-variance output. The bias is zero.

        The low-rank path starts at zero: low_rank_in is drawn from U(-1, 1) / sqrt(n), and low_rank_out is zero. A
        stored P is regenerated from the seed, which takes seconds for n = m = 4096. device="meta" postpones this.
        """
        for scale in (self.in_scale, self.out_scale):
            nn.init.normal_(scale, mean=1.0, std=1 / math.sqrt(self.in_features))
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.low_rank_in is not None and self.low_rank_out is not None:
            nn.init.kaiming_uniform_(self.low_rank_in, a=math.sqrt(5))
            nn.init.zeros_(self.low_rank_out)
        if self.projection is not None and not self.projection.is_meta:
            self.projection.copy_(matrices.Stored.make(self.seed, self.in_features, self.out_features))

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        y = self._symbolic(x) if torch.onnx.is_in_onnx_export() else self._modulated(x)
        if self.low_rank_in is None or self.low_rank_out is None:
            return y
        inner = nn.functional.linear(x.to(self.low_rank_in.dtype), self.low_rank_in)
        return y + nn.functional.linear(inner, self.low_rank_out / self.rank)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the dense matrix (m, n) of the layer: diag(out_scale) P diag(in_scale), plus the low-rank path."""
        matrix = self.out_scale[:, None] * self._fixed.entries(self, self.in_scale.dtype) * self.in_scale
        if self.low_rank_in is None or self.low_rank_out is None:
            return matrix
        return matrix + self.low_rank_out @ self.low_rank_in / self.rank

    @classmethod
    @torch.no_grad()
    def from_linear(
        cls, linear: nn.Module, *, distribution: str = "gaussian", seed: int | None = None, rank: int = 0
    ) -> "PRPLinear":
        """Fits the scales to a trained linear layer in the Frobenius norm.

        `linear` is a torch.nn.Linear or a transformers Conv1D. Its bias, dtype, device, mode and requires_grad are
        kept.

        The fit runs conjugate gradients from the best of four rank-one approximations of weight * P. With Rademacher P
        the result is the optimum. With other distributions it is a stationary point, not proven to be the optimum. If
        the best scales are all zero, in_scale is set to one, so that training can move away from zero.

        With a rank, the low-rank path is then fitted to the residual of the scales: it is the nearest by Eckart and
        Young, from a truncated SVD. The two parts are not refined jointly.
        """
        trained = trained_linear(cls, linear)
        layer = sized(cls, trained, trained.bias is not None, distribution=distribution, seed=seed, rank=rank)
        weight, bias = arrays(trained)
        p = array(layer._fixed.entries(layer, torch.float64))
        return filled(layer, nearest_prp(weight, bias, p, distribution, layer.seed, layer.rank), trained)

    @staticmethod
    def _settings(fit: PRPFit) -> dict[str, Any]:
        return {"distribution": fit.distribution, "seed": fit.seed, "rank": len(fit.low_rank_in)}

    @classmethod
    @torch.no_grad()
    def from_fit(cls, fit: PRPFit, like: nn.Module) -> "PRPLinear":
        """Returns the layer of a fit, with its stored P if it has one. See FromFit."""
        layer: PRPLinear = super().from_fit(fit, like)
        if layer.projection is not None and fit.projection is not None:
            layer.projection.copy_(tensor(fit.projection, layer.projection.device))
        return layer

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per row: those of P, n + m for the scales, and r (n + m) for a low-rank path.

        P takes n m. For "hadamard" it takes (rows_in + rows_out) (low^2 + low high) + N, see hadamard.Cut.
        """
        n, m = self.in_features, self.out_features
        return self._fixed.multiply_adds(self) + n + m + self.rank * (n + m)

    def extra_repr(self) -> str:
        rank = f", rank={self.rank}" if self.rank else ""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"distribution={self.distribution!r}, seed={self.seed}{rank}"
        )

    def _modulated(self, x: Tensor) -> Tensor:
        y = self._fixed.times(self, x * self.in_scale) * self.out_scale
        return y if self.bias is None else y + self.bias

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.out_scale, self.out_features) if self.bias is None else self.bias
        stored = () if self.projection is None else (self.projection,)
        attributes: dict[str, Attribute] = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            **self._fixed.attributes(self),
        }
        weights = (*stored, self.in_scale, self.out_scale, bias)
        return layer_node(self, x, weights, attributes, (*x.shape[:-1], self.out_features), op=self._fixed.op)


def _check_rank(rank: int, most: int) -> int:
    if (is_size(rank) or (rank == 0 and not isinstance(rank, bool))) and rank <= most:
        return operator.index(rank)
    raise ShapeError(
        f"PRPLinear does not support rank={rank!r}. Choose an integer from 0 (no low-rank path) to {most}."
    )


ENTRIES = (
    linear("PRPLinear, gaussian", PAPER, CLAIM, PRPLinear, "prp-autoencoder"),
    linear("PRPLinear, ternary", PAPER, CLAIM, lambda n, m: PRPLinear(n, m, distribution="ternary")),
    linear("PRPLinear, orthogonal (stored)", PAPER, CLAIM, lambda n, m: PRPLinear(n, m, distribution="orthogonal")),
    linear(
        "PRPLinear, rademacher",
        PAPER,
        OURS,
        lambda n, m: PRPLinear(n, m, distribution="rademacher"),
        "prp-autoencoder",
    ),
    linear(
        "PRPLinear, hadamard",
        PAPER,
        "not in the paper: replaces orthogonal",
        lambda n, m: PRPLinear(n, m, distribution="hadamard"),
    ),
    linear(
        "PRPLinear, rank 8 added",
        PAPER,
        "not in the paper: in code that is probably the author's",
        lambda n, m: PRPLinear(n, m, rank=8),
    ),
)
