"""PRP convolution: a fixed random weight, regenerated from a seed, modulated on both sides by trained vectors.

Reconstruction: the PRP paper (linear.py) names convolution as future work. Taken here as its layer on the
patches that a convolution looks at (im2col): one scale for each number of a patch, one and a bias for each output.

Letters: C input channels, m output channels, kernel kh x kw, n = C kh kw, P (m, n) with entries of variance 1/n.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgefc.generator import codebook
from edgefc.layers.common import seeded
from edgefc.layers.common.checkpoint import Seeded
from edgefc.layers.common.configuration import Configuration
from edgefc.layers.common.device_cache import DeviceCache
from edgefc.layers.common.entry import conv
from edgefc.layers.common.onnx_node import Attribute, layer_node, sizes, zero_bias
from edgefc.layers.common.windows import Padding, Pair, check_convolution, window
from edgefc.layers.prp import PAPER
from edgefc.layers.prp.scales import nearest_scales


class PRPConv2d(Seeded):
    """torch.nn.Conv2d of one group whose weight is P * in_scale * out_scale, with P regenerated from the seed.

    Stored are n + 2 m numbers and a seed: for 256 to 256 channels, 3 x 3, 2,816 numbers; a dense convolution stores
    590,080. The arithmetic is the dense convolution's: PRP saves memory, not multiplications. P has a row for each
    output and, in it, the order channel, height, width of torch.nn.Conv2d's weight. It is built on first use, kept
    while the layer lives, and left out of state dicts, copies and pickles. torch.compile and torch.export generate
    it in the program, in each call. The state dict holds the seed, and loading adopts it (common/checkpoint.py).
    seed=None draws one from torch's generator. Padding and sizes are torch.nn.Conv2d's.

    Shapes:
        in_scale    (C, kh, kw)             out_scale   (m,)        bias    (m,) or None
        x           (batch, C, h, w)        y           (batch, m, h', w'); both without batch too

    Raises:
        ShapeError: a size below 1, or padding="same" with a stride.
        UsageError: an unknown distribution (edgefc.generator.CODEBOOKS), or a seed that is not of 64 bits; from
            load_state_dict(), a checkpoint of another configuration.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        bias: bool = True,
        *,
        distribution: str = "gaussian",
        seed: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        c, m = sizes("PRPConv2d", in_channels, out_channels, "channels")
        self.in_channels, self.out_channels = c, m
        self.window = window("PRPConv2d", kernel_size, stride, padding, dilation)
        self.codebook, self.distribution = codebook(distribution), distribution
        self._store_seed(seed, device)
        self.in_scale = nn.Parameter(torch.empty(c, *self.window.kernel_size, device=device, dtype=dtype))
        self.out_scale = nn.Parameter(torch.empty(m, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(m, device=device, dtype=dtype)) if bias else None
        self._cache = DeviceCache()
        self.reset_parameters()

    def configuration(self) -> Configuration:
        return {
            "layer": "PRPConv2d",
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "distribution": self.distribution,
            **self.window.configuration(),
        }

    @property
    def patch(self) -> int:
        """n, the numbers that one output looks at."""
        return self.in_channels * self.window.positions

    def reset_parameters(self) -> None:
        """Scales from N(1, 1/n), so that unit-variance input gives nearly unit-variance output; the bias is zero."""
        for scale in (self.in_scale, self.out_scale):
            nn.init.normal_(scale, mean=1.0, std=1 / math.sqrt(self.patch))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        self.window.check(self, x, self.in_channels)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x) if x.ndim == 4 else self._symbolic(x.unsqueeze(0)).squeeze(0)
        scale = self.in_scale
        (p,) = self._cache.get(self.traceable_seed, scale, lambda: (self._generate(scale.dtype),))
        weight = p * self.in_scale * self.out_scale[:, None, None, None]
        look = self.window
        return functional.conv2d(x, weight, self.bias, look.stride, look.padding, look.dilation)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """The weight (m, C, kh, kw) of the same convolution."""
        matrix = torch.einsum("m,mn,n->mn", self.out_scale, self._generate(self.in_scale.dtype).flatten(1),
                              self.in_scale.flatten())  # fmt: skip
        return matrix.view(self.out_channels, *self.in_scale.shape)

    @classmethod
    @torch.no_grad()
    def from_conv(cls, conv: nn.Conv2d, *, distribution: str = "gaussian", seed: int | None = None) -> "PRPConv2d":
        """The scales that bring the layer near a trained convolution in the Frobenius norm; all else is kept.

        Alternating least squares, as PRPLinear.from_linear does it.

        Raises:
            UsageError: several groups, or edges that are not filled with zeros.
        """
        check_convolution(cls, conv)
        weight = conv.weight
        layer = cls(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation,  # type: ignore[arg-type]
            conv.bias is not None, distribution=distribution, seed=seed, device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
        out_scale, in_scale = nearest_scales(weight.double().flatten(1), layer._generate(torch.float64).flatten(1))
        layer.in_scale.copy_(in_scale.view_as(layer.in_scale))
        layer.out_scale.copy_(out_scale)
        if layer.bias is not None and conv.bias is not None:
            layer.bias.copy_(conv.bias)
        return layer

    def multiply_adds(self) -> int:
        """n m per output position. Both scales are taken into the weight, once a call: 2 n m."""
        return self.patch * self.out_channels

    def extra_repr(self) -> str:
        return (
            f"in_channels={self.in_channels}, out_channels={self.out_channels}, {self.window}, "
            f"bias={self.bias is not None}, distribution={self.distribution!r}, seed={self.seed}"
        )

    @torch.no_grad()
    def _generate(self, dtype: torch.dtype) -> Tensor:
        """P, (m, C, kh, kw)."""
        size = (self.out_channels, self.patch)
        matrix = seeded.matrix(self.traceable_seed, *size, self.distribution, dtype=dtype, device=self.in_scale.device)
        return matrix.div_(math.sqrt(self.patch)).view(self.out_channels, *self.in_scale.shape)

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.out_scale, self.out_channels) if self.bias is None else self.bias
        attributes: dict[str, Attribute] = {
            "in_features": self.patch,
            "out_features": self.out_channels,
            **self.window.attributes(),
            "seed": self.seed,
            "distribution": self.distribution,
            "bits": self.codebook.bits,
            "codebook": self.codebook.levels,
        }
        shape = (x.shape[0], self.out_channels, *self.window.image_size(x.shape[2], x.shape[3]))
        return layer_node(self, x, (self.in_scale, self.out_scale, bias), attributes, shape, op="PRPConv2d")


ENTRIES = (
    conv(
        "PRPConv2d",
        PAPER,
        "future work of the paper: our reconstruction",
        lambda n: PRPConv2d(n, n, 3, padding=1),
    ),
)
