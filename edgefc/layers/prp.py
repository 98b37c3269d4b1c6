"""PRP layer: a fixed random matrix, regenerated from a seed, modulated on both sides by trained vectors.

Source: Szorc, "Element-wise Modulation of Random Matrices for Efficient Neural Layers", arXiv 2512.13480,
https://arxiv.org/abs/2512.13480.

From the paper (by agreeing secondary sources): y = P'(x * alpha) * w + b, P fixed and never trained, entries of
variance 1/n, Gaussian or sparse ternary; n + 2 m numbers are trained. From code that is probably the author's:
ternary probabilities 1/6, 2/3, 1/6 and alpha, w ~ N(1, 1/n), b = 0. Reconstructions of ours: P comes from the
generator in edgefc/generator, in which "gaussian" has 16 levels and ternary probabilities are multiples of 1/256;
Rademacher signs, which the paper does not list, are the cheapest to regenerate.

Letters: n inputs, m outputs, P (m, n) with entries of variance 1/n.
"""

import math

import torch
from torch import Tensor, nn

from edgefc.generator import check_seed, codebook
from edgefc.layers import seeded
from edgefc.layers.symbolic import Attribute, check_width, layer_node, sizes, zero_bias

_FIT_SWEEPS, _FIT_SETTLED = 500, 1e-12  # at most so many sweeps, fewer once the scales move less than this


class PRPLinear(nn.Module):
    """((x * in_scale) P^T) * out_scale + bias, with P regenerated from the seed.

    Stored are n + 2 m numbers and a seed: for n = m = 4096, 12,288 numbers; a dense layer stores 16,781,312. The
    arithmetic is the dense layer's: PRP saves memory, not multiplications. P is no parameter and no buffer: it is
    built on first use for the device and dtype at hand, kept while the layer lives, and left out of state dicts,
    copies and pickles. The seed is not in the state dict either: build the layer with the seed it was trained with.

    Shapes:
        in_scale    (n,)    out_scale   (m,)    bias    (m,) or None
        x           (..., n)                    y       (..., m)

    Raises:
        ShapeError: a size below 1.
        UsageError: an unknown distribution ("gaussian", "rademacher", "ternary"), or a seed that is not a whole
            number of 64 bits.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        distribution: str = "gaussian",
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        in_features, out_features = sizes(type(self).__name__, in_features, out_features)
        self.in_features, self.out_features = in_features, out_features
        self.codebook, self.distribution = codebook(distribution), distribution
        self.seed = check_seed(seed)
        self.in_scale = nn.Parameter(torch.empty(in_features, device=device, dtype=dtype))
        self.out_scale = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self._kept: tuple[object, Tensor] | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scales from N(1, 1/n), so that unit-variance input gives nearly unit-variance output; the bias is zero."""
        for scale in (self.in_scale, self.out_scale):
            nn.init.normal_(scale, mean=1.0, std=1 / math.sqrt(self.in_features))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        y = nn.functional.linear(x * self.in_scale, self._matrix()) * self.out_scale
        return y if self.bias is None else y + self.bias

    @torch.no_grad()
    def dense(self) -> Tensor:
        """The same map as one (m, n) matrix: diag(out_scale) P diag(in_scale)."""
        return self.out_scale[:, None] * self._generate(self.in_scale.dtype, self.in_scale.device) * self.in_scale

    @classmethod
    @torch.no_grad()
    def from_linear(cls, linear: nn.Linear, *, distribution: str = "gaussian", seed: int = 0) -> "PRPLinear":
        """The scales that bring the layer near a trained linear layer in the Frobenius norm; the bias is kept.

        Alternating least squares from the best rank-one approximation of weight * P: given one scale the other has a
        closed form, so the distance never grows. With Rademacher P the start is the answer; with others the answer is
        a stationary point, as good as any found from other starts, but not proven to be the nearest.
        """
        m, n = linear.weight.shape
        layer = cls(
            n,
            m,
            linear.bias is not None,
            distribution=distribution,
            seed=seed,
            device=linear.weight.device,
            dtype=linear.weight.dtype,
        )
        out_scale, in_scale = _nearest_scales(
            linear.weight.double(), layer._generate(torch.float64, linear.weight.device)
        )
        balance = (out_scale.norm() / in_scale.norm().clamp(min=1e-30)).sqrt().clamp(min=1e-30)
        layer.in_scale.copy_(in_scale * balance)
        layer.out_scale.copy_(out_scale / balance)
        if layer.bias is not None:
            layer.bias.copy_(linear.bias)
        return layer

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"distribution={self.distribution!r}, seed={self.seed}"
        )

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": None}

    def _matrix(self) -> Tensor:
        dtype, device = self.in_scale.dtype, self.in_scale.device
        wanted = (self.seed, self.distribution, dtype, device)
        if self._kept is not None and self._kept[0] == wanted:
            return self._kept[1]
        with torch.inference_mode(False):  # what inference makes first, training may need later
            matrix = self._generate(dtype, device)
        if type(matrix) is Tensor:  # a tracer's stand-in is of no use to later calls
            self._kept = wanted, matrix
        return matrix

    @torch.no_grad()
    def _generate(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        size = (self.out_features, self.in_features)
        matrix = seeded.matrix(self.seed, *size, self.distribution, dtype=dtype, device=device)
        return matrix.div_(math.sqrt(self.in_features))

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.out_scale, self.out_features) if self.bias is None else self.bias
        attributes: dict[str, Attribute] = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "seed": self.seed,
            "distribution": self.distribution,
            "bits": self.codebook.bits,
            "codebook": self.codebook.levels,
        }
        weights = (self.in_scale, self.out_scale, bias)
        return layer_node(self, x, weights, attributes, (*x.shape[:-1], self.out_features))


def _nearest_scales(weight: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """w (m,) and alpha (n,) that bring diag(w) P diag(alpha) near to `weight` (m, n), float64."""
    product, square = weight * p, p * p
    with torch.random.fork_rng(devices=[weight.device] if weight.is_cuda else []):
        torch.manual_seed(0)
        _, _, right = torch.svd_lowrank(product, q=min(4, *product.shape), niter=8)
    in_scale = right[:, 0]
    for _ in range(_FIT_SWEEPS):
        out_scale = (product @ in_scale) / (square @ in_scale.square()).clamp(min=1e-30)
        before, in_scale = in_scale, (product.T @ out_scale) / (square.T @ out_scale.square()).clamp(min=1e-30)
        if (in_scale - before).norm() <= _FIT_SETTLED * in_scale.norm():
            break
    return out_scale, in_scale
