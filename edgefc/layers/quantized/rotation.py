"""The seeded rotation of the inputs of a quantised layer: random signs, then a Walsh-Hadamard transform in blocks.

The rotation spreads large inputs and weights over a block, so that rounding to few bits hurts less. It is orthogonal
and stores nothing but its seed. edgefc/fitting/rotation.py defines it. Here it is two small matrix products for each
block: H of length high * low is kron(H_high, H_low).

Source: Ashkboos et al., "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs", arXiv 2404.00456. The blocks and the
signs from the generator are ours.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from edgefc.fitting.rotation import block_of
from edgefc.layers.common import hadamard, seeded
from edgefc.layers.common.checkpoint import Seeded
from edgefc.layers.common.configuration import Configuration
from edgefc.layers.common.device_cache import DeviceCache
from edgefc.layers.common.entry import Entry
from edgefc.layers.common.facts import hadamard_sides
from edgefc.layers.common.onnx_node import check_width, layer_node
from edgefc.layers.quantized import PAPER


class HadamardRotation(Seeded):
    """x D H / sqrt(block): D has seeded signs, H has Walsh-Hadamard matrices of `block` rows on its diagonal.

    Shapes:
        x (..., n)  ->  (..., width)    width is n padded with zeros to a multiple of block

    block is the power of two at or above n, at most 128.
    """

    def __init__(self, features: int, *, seed: int | None = None, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.features, self.block = features, block_of(features)
        self.width = -(-features // self.block) * self.block
        self._cache = DeviceCache()
        self._store_seed(seed, device)

    def configuration(self) -> Configuration:
        return {"layer": "HadamardRotation", "features": self.features, "block": self.block}

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.features)
        if torch.onnx.is_in_onnx_export():
            sizes = {"in_features": self.features, "out_features": self.width, "block": self.block, "seed": self.seed}
            return layer_node(self, x, (), sizes, (*x.shape[:-1], self.width), op="HadamardRotation")
        signs, high, low = self._cache.get(self.traceable_seed, x, lambda: self._tables(x))
        u = pad(x * signs, (0, self.width - self.features))
        u = u.reshape(*x.shape[:-1], self.width // self.block, len(high), len(low))
        return torch.matmul(high, torch.matmul(u, low)).flatten(-3)

    @torch.no_grad()
    def back(self, rows: Tensor) -> Tensor:
        """Returns rows (m, width) of a rotated weight as rows (m, n) of the weight, by additions and subtractions."""
        blocks = hadamard.transform(rows.reshape(len(rows), -1, self.block) / math.sqrt(self.block))
        signs = seeded.signs(self.seed, self.features, dtype=rows.dtype, device=rows.device)
        return blocks.flatten(-2)[..., : self.features] * signs

    def multiply_adds(self) -> int:
        """Returns width (high + low) for the products."""
        return self.width * sum(hadamard_sides(self.block))

    def extra_repr(self) -> str:
        return f"features={self.features}, block={self.block}, seed={self.seed}"

    def _tables(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns signs / sqrt(block) (n,) and both Hadamard matrices."""
        signs = seeded.signs(self.traceable_seed, self.features, dtype=torch.float64, device=x.device)
        high, low = (hadamard.matrix(side, dtype=x.dtype, device=x.device) for side in hadamard_sides(self.block))
        return (signs / math.sqrt(self.block)).to(x.dtype), high, low


ENTRIES = (
    Entry(
        "HadamardRotation", PAPER, "768 to 768", 768, HadamardRotation,
        lambda n: nn.Linear(n, HadamardRotation(n, seed=0).width), "makes outliers smaller before rounding",
    ),
)  # fmt: skip
