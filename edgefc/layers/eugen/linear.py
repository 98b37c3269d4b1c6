"""EUGen layer: products of random features of the input, up to an order, followed by one small matrix.

Source: "Efficient, Unified and General dense layers" (EUGens), NeurIPS 2025, https://arxiv.org/abs/2410.09771.
ReLU features: "Scalable Neural Network Kernels" (SNNK), ICLR 2024, https://arxiv.org/abs/2310.13225.

From the paper: y = f(x) g(W)^T with f(x) = Phi(concatenation over i of the Hadamard product over j <= i of G_ij x+),
x+ = [x ; |x|], w+ = [w ; 1]; the cheaper G_ij = G_j, which allows cumulative products; g(W) computed by Psi, or learned
directly; random, orthogonal or trained G; the unbiased estimator of polynomial activations; merging with the linear
layer that follows.

Our reconstructions: the block i = 0 is a constant, here the bias; the scale of G; the initialisation of the matrix; the
scales in from_linear(); projections generated from a seed by edgefc/generator, in which "gaussian" has 16 levels.

The layer is not linear in x, so it has no dense().

Symbols: d inputs, l outputs, m features, k order, P projections, e entries appended to the input.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError
from edgefc.fitting.eugen import EUGenFit
from edgefc.generator import codebook
from edgefc.layers.common import activations, seeded
from edgefc.layers.common.checkpoint import Seeded
from edgefc.layers.common.configuration import Configuration
from edgefc.layers.common.device_cache import DeviceCache
from edgefc.layers.common.effective import effective_tensors, make_plain
from edgefc.layers.common.entry import linear
from edgefc.layers.common.fits import FromFit
from edgefc.layers.common.no_weight import not_fused
from edgefc.layers.common.onnx_node import Attribute, check_width, layer_node, sizes, zero_bias
from edgefc.layers.common.trained import TrainedLinear, trained_linear
from edgefc.layers.eugen import CLAIM, PAPER, projections, start


class EUGenLinear(FromFit, Seeded):
    """Computes f(x) weight^T + bias. f(x) = Phi(h_1 ... h_k), and h_i is the elementwise product of G_ij x+ for j <= i.

    The layer stores l (k m + 1) parameters, and a seed or G. For d = l = 4096, m = 64, k = 1 these are 266,240
    parameters and a seed, or 528,448 with a trained G; a dense layer stores 16,781,312. With shared projections, the
    layer takes fewer multiplications than the dense layer if m k < d l / (d + l + 1).

    projection  "random": G is generated from the seed and kept as long as the layer exists. State dicts, copies and
                pickles do not contain it. Programs of torch.compile and torch.export generate it in each call.
                "orthogonal": Gaussian orthogonal rows, stored in a buffer.
                "trained": a parameter, initialised like "random".
    shared      True: G_ij = G_j, k projections. False: k (k + 1) / 2 projections.
    norm        append |x| to x, the x+ of the paper. Its gradient at x = 0 is defined as 0.
    one         append 1 to x, which absorbs a bias. from_linear() and from_polynomial() use it.

    Entries of G have variance 1 / (d + one), or half of it with norm, so that inputs of variance 1 give projections of
    variance 1. The state dict stores the seed, and load_state_dict() restores it (common/checkpoint.py). seed=None
    draws a seed from torch's generator.

    Shapes:
        weight  (l, k m)    bias    (l,) or None    projection  (P m, d + e) or None
        x       (..., d)    y       (..., l)

    Raises:
        ShapeError: a size below 1, or an order above 32.
        UsageError: an unknown projection, activation or distribution, orthogonal projections that are not Gaussian, or
            a seed that is not an integer from 0 to 2**64 - 1; from load_state_dict(), a checkpoint with another
            configuration.
    """

    projection: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        features: int = 64,
        order: int = 1,
        activation: str = "relu",
        seed: int | None = None,
        projection: str = "random",
        shared: bool = True,
        distribution: str = "gaussian",
        norm: bool = True,
        one: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = sizes(type(self).__name__, in_features, out_features)
        self.features, self.order = projections.features_and_order(features, order)
        activations.activation(activation)  # raises if it is unknown
        self.activation = activation
        self.shared, self.norm, self.one = bool(shared), bool(norm), bool(one)
        self.codebook, self.distribution = codebook(distribution), distribution
        self.kind = projections.kind(projection, distribution)
        self._store_seed(seed, device)
        width = self.order * self.features
        self.weight = nn.Parameter(torch.empty(self.out_features, width, device=device, dtype=dtype))
        self.register_forward_pre_hook(not_fused)  # weight is not the weight of an nn.Linear
        self.bias = nn.Parameter(torch.empty(self.out_features, device=device, dtype=dtype)) if bias else None
        stored = None if self.kind == "random" else torch.empty(self._shape, device=device, dtype=dtype)
        if self.kind == "trained" and stored is not None:
            self.projection = nn.Parameter(stored)
        else:
            self.register_buffer("projection", stored)
        self._cache = DeviceCache()
        self.reset_parameters()

    def configuration(self) -> Configuration:
        return {
            "layer": "EUGenLinear",
            "in_features": self.in_features,
            "out_features": self.out_features,
            "features": self.features,
            "order": self.order,
            "activation": self.activation,
            "projection": self.kind,
            "shared": self.shared,
            "distribution": self.distribution,
            "norm": self.norm,
            "one": self.one,
        }

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the weight from N(0, 1 / (3 k m c)), c = E[Phi(z)^2] of standard normal z. Regenerates a stored G.

        The bias is zero. For inputs of variance 1, the mean square of the outputs over layers and inputs is then about
        1/3, the output variance of torch.nn.Linear. This is exact for identity and relu. It is lower for bounded
        functions at higher orders.
        """
        std = (3 * self.order * self.features * start.mean_square(self.activation)) ** -0.5
        nn.init.normal_(self.weight, std=std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.projection is not None:
            self.projection.copy_(self._generate(self.projection.dtype, self.projection.device))

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        return nn.functional.linear(self.random_features(x), self.weight, self.bias)

    def random_features(self, x: Tensor) -> Tensor:
        """Returns f(x), the features that the weight is applied to, (..., d) -> (..., k m)."""
        check_width(self, x, self.in_features)
        u = nn.functional.linear(projections.extend(x, one=self.one, norm=self.norm), self.matrix())
        h = projections.products(u, self.features, self.order, self.shared)
        return activations.activation(self.activation)(h)

    def matrix(self) -> Tensor:
        """Returns G, all projections stacked by rows, (P m, d + e), in the dtype and on the device of the weight."""
        if self.projection is not None:
            return self.projection
        dtype, device = self.weight.dtype, self.weight.device
        (matrix,) = self._cache.get(self.traceable_seed, self.weight, lambda: (self._generate(dtype, device),))
        return matrix

    @classmethod
    @torch.no_grad()
    def from_linear(
        cls,
        linear: nn.Module,
        *,
        psi: str | None = None,
        features: int = 64,
        order: int = 1,
        activation: str = "relu",
        seed: int | None = None,
        projection: str = "random",
        shared: bool = True,
        distribution: str = "gaussian",
        norm: bool = True,
    ) -> "EUGenLinear":
        """Returns a layer with the weight g(W): Psi of the same projections of the rows of W, option (i) of the paper.

        `linear` is a torch.nn.Linear or a transformers Conv1D. Its dtype, device, mode and requires_grad are kept.

        psi is the activation Psi, by default the activation of the layer. A bias b is absorbed: x becomes [x ; 1] and
        w becomes [w ; b]. The bias of the new layer starts at zero. Block i of the weight is Psi(prod_j g_ij w+) /
        (m s^i), where g has entries of variance 1 and s is the scale of G. This scale is our reconstruction, because
        the paper does not specify it.

        For positively homogeneous Phi, the layer estimates the sum over i of E[Psi(prod g w+) Phi(prod g x+)]. For
        relu at order 1 that is the arc-cosine kernel of w+ and x+, and not relu(W x + b). So the result is the
        data-free initialisation of the paper, not an approximation of `linear`. Use fit_closed_form() to fit the layer
        to the one that it replaces.
        """
        trained = trained_linear(cls, linear)
        layer = cls._beside(
            trained, features=features, order=order, activation=activation, seed=seed, projection=projection,
            shared=shared, distribution=distribution, norm=norm,
        )  # fmt: skip
        h = activations.activation(activation if psi is None else psi)(layer._weight_products(trained))
        layer.weight.copy_(h * layer._per_block([1.0] * layer.order))
        return trained.copy_flags_to(layer)

    @classmethod
    @torch.no_grad()
    def from_polynomial(
        cls,
        linear: nn.Module,
        coefficients: Sequence[float],
        *,
        features: int = 64,
        seed: int | None = None,
        projection: str = "random",
        shared: bool = True,
        distribution: str = "gaussian",
    ) -> "EUGenLinear":
        """Returns an unbiased estimate, over seeds, of p(W x + b), p(z) = a_0 + a_1 z + ... + a_k z^k: Theorem 3.1.

        This is the real form: norm=False, a_i / m applied to block i of the weight, and a_0 as the bias. The variance
        of Theorem 3.2 assumes shared=False. Shared projections add covariances between orders. Rademacher entries have
        the lowest variance.

        Raises:
            UsageError: fewer than two coefficients, or one that is not finite.
        """
        a = start.polynomial(coefficients)
        trained = trained_linear(cls, linear)
        layer = cls._beside(
            trained, features=features, order=len(a) - 1, activation="identity", seed=seed, projection=projection,
            shared=shared, distribution=distribution, norm=False,
        )  # fmt: skip
        layer.weight.copy_(layer._weight_products(trained) * layer._per_block(a[1:]))
        if layer.bias is not None:
            layer.bias.fill_(a[0])
        return trained.copy_flags_to(layer)

    @staticmethod
    def _settings(fit: EUGenFit) -> dict[str, Any]:
        """A fit has order 1, activation "identity" and norm=False."""
        features = {"features": fit.weight.shape[1], "activation": "identity", "norm": False}
        return {**features, "seed": fit.seed, "distribution": fit.distribution}

    @torch.no_grad()
    def merge(self, following: nn.Module) -> "EUGenLinear":
        """Merges this layer and the linear layer that follows it into one: weight W' Psi, bias W' bias + b'.

        Raises:
            ShapeError: in_features of `following` differs from out_features of this layer.
        """
        trained = trained_linear(EUGenLinear, following)
        if trained.in_features != self.out_features:
            raise ShapeError(
                f"EUGenLinear with out_features={self.out_features} cannot merge with a linear layer of "
                f"in_features={trained.in_features}. Pass the layer that follows, with {self.out_features} inputs."
            )
        merged, outer = copy.deepcopy(self), trained.weight.double()
        make_plain(merged, effective_tensors(merged))
        merged.out_features = trained.out_features
        merged.weight = nn.Parameter((outer @ self.weight.double()).to(self.weight.dtype))
        bias = None if trained.bias is None else trained.bias.double()
        if self.bias is not None:
            inner = outer @ self.bias.double()
            bias = inner if bias is None else inner + bias
        merged.bias = None if bias is None else nn.Parameter(bias.to(self.weight.dtype))
        return merged

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per row.

        The projections take P m (d + e), the norm takes d + one, and the weight takes k m l. The Hadamard products take
        m (k - 1) with shared projections, otherwise m k (k - 1) / 2. The bias takes only additions.
        """
        m, k = self.features, self.order
        hadamard = m * (k - 1) if self.shared else m * k * (k - 1) // 2
        length = self.in_features + self.one if self.norm else 0
        return math.prod(self._shape) + length + hadamard + k * m * self.out_features

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"features={self.features}, order={self.order}, activation={self.activation!r}, seed={self.seed}, "
            f"projection={self.kind!r}, shared={self.shared}, distribution={self.distribution!r}, norm={self.norm}, "
            f"one={self.one}"
        )

    @classmethod
    def _beside(cls, linear: TrainedLinear, **options: Any) -> "EUGenLinear":
        """Returns a layer with the sizes, dtype and device of `linear`. It can absorb the bias of `linear`."""
        (outputs, inputs), device, dtype = linear.weight.shape, linear.weight.device, linear.weight.dtype
        return cls(inputs, outputs, one=linear.bias is not None, device=device, dtype=dtype, **options)

    @property
    def _shape(self) -> tuple[int, int]:
        """The shape of G, (P m, d + e)."""
        rows = projections.count(self.order, self.shared) * self.features
        return rows, self.in_features + self.one + self.norm

    def _size(self) -> float:
        return projections.scale(self.in_features + self.one, norm=self.norm)

    def _weight_products(self, linear: TrainedLinear) -> Tensor:
        """Returns the products of the rows of w+ projected by g = G / s, float64, (l, k m)."""
        g = self.matrix().double() / self._size()
        u = start.rows(linear, constant=self.norm) @ g.T
        return projections.products(u, self.features, self.order, self.shared)

    def _per_block(self, numbers: Sequence[float]) -> Tensor:
        """Returns number_i / (m s^i) for block i, repeated for each feature.

        This factor converts sums of products of G into means of products of g.
        """
        sizes = [a / self.features / self._size() ** i for i, a in enumerate(numbers, 1)]
        return torch.tensor(sizes, dtype=torch.float64, device=self.weight.device).repeat_interleave(self.features)

    @torch.no_grad()
    def _generate(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        (rows, width), seed = self._shape, self.traceable_seed
        if self.kind == "orthogonal":
            matrix = projections.orthogonal(seed, rows, self.features, width, dtype=dtype, device=device)
        else:
            matrix = seeded.matrix(seed, rows, width, self.distribution, dtype=dtype, device=device)
        return matrix.mul_(self._size())

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.weight, self.out_features) if self.bias is None else self.bias
        attributes: dict[str, Attribute] = {
            name: int(getattr(self, name))
            for name in ("in_features", "out_features", "features", "order", "shared", "norm", "one")
        }
        attributes["activation"] = activations.code(self.activation)
        shape = (*x.shape[:-1], self.out_features)
        if self.projection is not None:
            return layer_node(self, x, (self.projection, self.weight, bias), attributes, shape, op="EUGenStoredLinear")
        attributes |= {"seed": self.seed, "distribution": self.distribution}
        attributes |= {"bits": self.codebook.bits, "codebook": self.codebook.levels}
        return layer_node(self, x, (self.weight, bias), attributes, shape, op="EUGenLinear")


ENTRIES = (
    linear("EUGenLinear, order 1", PAPER, CLAIM, EUGenLinear, "eugen-distill"),
    linear("EUGenLinear, order 2", PAPER, CLAIM, lambda n, m: EUGenLinear(n, m, order=2)),
    linear(
        "EUGenLinear, trained projection",
        PAPER,
        CLAIM,
        lambda n, m: EUGenLinear(n, m, projection="trained"),
        "eugen-siren",
    ),
)
