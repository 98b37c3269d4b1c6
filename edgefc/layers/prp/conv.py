"""PRP convolution: a fixed random weight, regenerated from a seed, scaled on both sides by trained vectors.

This is our reconstruction: the PRP paper (linear.py) names convolution as future work. Here the layer of the paper is
applied to the patches of a convolution (im2col): one scale per value of a patch, one scale and one bias per output.

Symbols: C input channels, m output channels, kernel kh x kw, n = C kh kw, P (m, n) with entries of variance 1/n.
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
from edgefc.layers.common.windows import (
    Padding,
    Pair,
    check_convolution,
    convolution_arguments,
    convolution_repr,
    window,
)
from edgefc.layers.prp import PAPER
from edgefc.layers.prp.scales import nearest_scales


class PRPConv2d(Seeded):
    """torch.nn.Conv2d with groups=1 whose weight is P * in_scale * out_scale, with P regenerated from the seed.

    The layer stores n + 2 m parameters and a seed: 2,816 for 256 to 256 channels and 3 x 3; a dense convolution stores
    590,080. It needs the multiply-adds of a dense convolution: PRP saves memory, not multiplications. P has one row
    for each output, in the order (channel, height, width) of the weight of torch.nn.Conv2d. P is generated on first
    use and kept as long as the layer exists. State dicts, copies and pickles do not contain it. Programs of
    torch.compile and torch.export generate it in each call.

    The state dict stores the seed, and load_state_dict() restores it (common/checkpoint.py). seed=None draws a seed
    from torch's generator. Padding and output sizes are those of torch.nn.Conv2d.

    Shapes:
        in_scale    (C, kh, kw)             out_scale   (m,)        bias    (m,) or None
        x           (batch, C, h, w)        y           (batch, m, h', w'); the batch axis is optional

    Raises:
        ShapeError: a size below 1, or padding="same" with a stride.
        UsageError: an unknown distribution (edgefc.generator.CODEBOOKS), or a seed outside 0 to 2**64 - 1; from
            load_state_dict(), a checkpoint with another configuration.
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
        """n, the number of values in a patch."""
        return self.in_channels * self.window.positions

    def reset_parameters(self) -> None:
        """Draws the scales from N(1, 1/n): unit-variance input gives nearly unit-variance output. The bias is zero."""
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
        window = self.window
        return functional.conv2d(x, weight, self.bias, window.stride, window.padding, window.dilation)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the weight (m, C, kh, kw) of the equivalent Conv2d."""
        matrix = torch.einsum("m,mn,n->mn", self.out_scale, self._generate(self.in_scale.dtype).flatten(1),
                              self.in_scale.flatten())  # fmt: skip
        return matrix.view(self.out_channels, *self.in_scale.shape)

    @classmethod
    @torch.no_grad()
    def from_conv(cls, conv: nn.Conv2d, *, distribution: str = "gaussian", seed: int | None = None) -> "PRPConv2d":
        """Fits the scales to a trained convolution in the Frobenius norm. Keeps all other settings.

        The method is that of PRPLinear.from_linear.

        Raises:
            UsageError: several groups, or a padding mode other than zeros.
        """
        check_convolution(cls, conv)
        weight = conv.weight
        layer = cls(
            *convolution_arguments(conv), distribution=distribution, seed=seed, device=weight.device, dtype=weight.dtype
        )
        out_scale, in_scale = nearest_scales(weight.double().flatten(1), layer._generate(torch.float64).flatten(1))
        layer.in_scale.copy_(in_scale.view_as(layer.in_scale))
        layer.out_scale.copy_(out_scale)
        if layer.bias is not None and conv.bias is not None:
            layer.bias.copy_(conv.bias)
        return layer

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per output position: n m. Scaling the weight takes 2 n m more, once per call."""
        return self.patch * self.out_channels

    def extra_repr(self) -> str:
        return f"{convolution_repr(self)}, distribution={self.distribution!r}, seed={self.seed}"

    @torch.no_grad()
    def _generate(self, dtype: torch.dtype) -> Tensor:
        """Returns P, (m, C, kh, kw)."""
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
