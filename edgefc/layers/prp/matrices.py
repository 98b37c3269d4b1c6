"""What the fixed matrix P of a PRP layer can be: levels of a codebook, stored numbers, or a seeded transform.

Each kind knows its op, its entries one by one, and how to multiply by P; the layer is handed in, and nothing of it is
kept but what can be made again from its seed.

Letters: n inputs, m outputs, P (m, n) with entries of variance 1/n.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from edgefc.errors import UsageError
from edgefc.generator import CODEBOOKS, codebook
from edgefc.layers.common import seeded
from edgefc.layers.common.device_cache import DeviceCache
from edgefc.layers.common.onnx_node import Attribute
from edgefc.layers.prp import hadamard

if TYPE_CHECKING:
    from edgefc.layers.prp.linear import PRPLinear

DISTRIBUTIONS = (*CODEBOOKS, "orthogonal", "hadamard")


class Coded:
    """P[i, j] = levels[code] / sqrt(n), regenerated from the seed by edgefc/generator."""

    op = "PRPLinear"

    def __init__(self, distribution: str) -> None:
        self.distribution, self.codebook = distribution, codebook(distribution)
        self._cache = DeviceCache()

    def entries(self, layer: "PRPLinear", dtype: torch.dtype) -> Tensor:
        """P, (m, n)."""
        m, n = layer.out_features, layer.in_features
        matrix = seeded.matrix(layer.traceable_seed, m, n, self.distribution, dtype=dtype, device=layer.in_scale.device)
        return matrix.div_(math.sqrt(n))

    def times(self, layer: "PRPLinear", u: Tensor) -> Tensor:
        """u P^T, (..., n) -> (..., m), by a whole matrix that is made once."""
        scale = layer.in_scale
        (matrix,) = self._cache.get(layer.traceable_seed, scale, lambda: (self.entries(layer, scale.dtype),))
        return linear(u, matrix)

    def multiply_adds(self, layer: "PRPLinear") -> int:
        """n m."""
        return layer.in_features * layer.out_features

    def attributes(self, layer: "PRPLinear") -> dict[str, Attribute]:
        book = self.codebook
        return {"seed": layer.seed, "distribution": self.distribution, "bits": book.bits, "codebook": book.levels}


class Stored:
    """P orthogonal, kept as numbers in the layer's buffer `projection`.

    The QR of a seeded Gaussian matrix, in float64, with a positive diagonal of R. Two machines need not agree on the
    last bits of a QR, so a seed is not enough to have the matrix again.
    """

    op = "PRPStoredLinear"

    @staticmethod
    def make(seed: int, n: int, m: int) -> Tensor:
        """(m, n) float64: rows orthonormal for m <= n, columns orthogonal and of length sqrt(m/n) for m > n."""
        normal = seeded.matrix(seed, m, n, "gaussian", dtype=torch.float64, device="cpu")
        q, r = torch.linalg.qr(normal.T if m <= n else normal)
        q = torch.where(r.diagonal() < 0, -q, q)
        return q.T if m <= n else q * math.sqrt(m / n)

    def entries(self, layer: "PRPLinear", dtype: torch.dtype) -> Tensor:
        """P, (m, n), as it is stored."""
        return self._projection(layer).to(dtype)

    def times(self, layer: "PRPLinear", u: Tensor) -> Tensor:
        """u P^T, (..., n) -> (..., m)."""
        return linear(u, self._projection(layer))

    def multiply_adds(self, layer: "PRPLinear") -> int:
        """n m."""
        return layer.in_features * layer.out_features

    def attributes(self, layer: "PRPLinear") -> dict[str, Attribute]:
        return {}

    @staticmethod
    def _projection(layer: "PRPLinear") -> Tensor:
        assert layer.projection is not None
        return layer.projection


class Transformed:
    """P = the first m rows and n columns of sqrt(N/n) (H / sqrt(N)) D2 (H / sqrt(N)) D1.

    N is the next power of two to max(n, m), H the Hadamard matrix, D1 and D2 are seeded signs, rows 0 and 1 of the
    Rademacher matrix. Rows of one P are alike: H D2 H has the entry g[i ^ j] at (i, j), ^ the exclusive or of the
    indices and g = H d2, so it holds N numbers where a random matrix has n m.
    """

    op = "PRPHadamardLinear"

    def __init__(self) -> None:
        self._cache = DeviceCache()

    def entries(self, layer: "PRPLinear", dtype: torch.dtype) -> Tensor:
        """P, (m, n), from the exclusive or of the indices and not by times()."""
        m, n, device = layer.out_features, layer.in_features, layer.in_scale.device
        length = hadamard.cut(n, m).length
        seed = layer.traceable_seed
        g = hadamard.transform(seeded.signs(seed, length, row=1, dtype=torch.float64, device=device))
        row, column = (torch.arange(size, dtype=torch.int32, device=device) for size in (m, n))
        signs = seeded.signs(seed, n, dtype=torch.float64, device=device)
        return (g / math.sqrt(length * n)).to(dtype)[row[:, None] ^ column] * signs.to(dtype)

    def times(self, layer: "PRPLinear", u: Tensor) -> Tensor:
        """u P^T, (..., n) -> (..., m), about 4 N sqrt(N) multiply-adds."""
        n, m, scale = layer.in_features, layer.out_features, layer.in_scale
        cut = hadamard.cut(n, m)
        first, second, high, low = self._cache.get(layer.traceable_seed, scale, lambda: self._tables(layer, cut))
        u = pad(u * first, (0, cut.rows_in * cut.low - n)).reshape(*u.shape[:-1], cut.rows_in, cut.low)
        u = torch.matmul(high[:, : cut.rows_in], torch.matmul(u, low)) * second  # (..., high, low)
        u = torch.matmul(torch.matmul(high[: cut.rows_out], u), low)  # (..., rows_out, low)
        return u.flatten(-2)[..., :m]

    def multiply_adds(self, layer: "PRPLinear") -> int:
        """(rows_in + rows_out) (low^2 + low high) of both transforms, by hadamard.Cut, and N for D2."""
        cut = hadamard.cut(layer.in_features, layer.out_features)
        return cut.multiply_adds + cut.length

    def attributes(self, layer: "PRPLinear") -> dict[str, Attribute]:
        return {"seed": layer.seed}

    @staticmethod
    def _tables(layer: "PRPLinear", cut: hadamard.Cut) -> tuple[Tensor, ...]:
        """D1 / sqrt(N) (n,), D2 / sqrt(n) (high, low), both Hadamard matrices: no product outgrows u by much."""
        n, scale = layer.in_features, layer.in_scale
        seed = layer.traceable_seed
        first = seeded.signs(seed, n, dtype=torch.float64, device=scale.device) / math.sqrt(cut.length)
        second = seeded.signs(seed, cut.length, row=1, dtype=torch.float64, device=scale.device) / math.sqrt(n)
        high, low = (hadamard.matrix(size, dtype=scale.dtype, device=scale.device) for size in (cut.high, cut.low))
        return first.to(scale.dtype), second.to(scale.dtype).view(cut.high, cut.low), high, low


def kind(distribution: str) -> Coded | Stored | Transformed:
    """The kind of P by the name of its distribution.

    Raises:
        UsageError: no such distribution.
    """
    if distribution not in DISTRIBUTIONS:
        raise UsageError(f"no distribution {distribution!r}. Choose one of: {', '.join(DISTRIBUTIONS)}.")
    if distribution == "orthogonal":
        return Stored()
    return Transformed() if distribution == "hadamard" else Coded(distribution)
