"""The kinds of the fixed matrix P of a PRP layer: levels of a codebook, stored values, or a seeded transform.

Each kind defines its op, the entries of P, and the product with P. Methods take the layer as an argument. A kind keeps
only tensors that it can regenerate from the seed.

Symbols: n inputs, m outputs, P (m, n) with entries of variance 1/n.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from edgefc.errors import UsageError
from edgefc.generator import CODEBOOKS, codebook
from edgefc.layers.common import hadamard, seeded
from edgefc.layers.common.device_cache import DeviceCache
from edgefc.layers.common.onnx_node import Attribute

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
        """Returns P, (m, n)."""
        m, n = layer.out_features, layer.in_features
        matrix = seeded.matrix(layer.traceable_seed, m, n, self.distribution, dtype=dtype, device=layer.in_scale.device)
        return matrix.div_(math.sqrt(n))

    def times(self, layer: "PRPLinear", u: Tensor) -> Tensor:
        """Returns u P^T, (..., n) -> (..., m). Generates the matrix once and caches it."""
        scale = layer.in_scale
        (matrix,) = self._cache.get(layer.traceable_seed, scale, lambda: (self.entries(layer, scale.dtype),))
        return linear(u, matrix)

    def multiply_adds(self, layer: "PRPLinear") -> int:
        """Returns n m."""
        return layer.in_features * layer.out_features

    def attributes(self, layer: "PRPLinear") -> dict[str, Attribute]:
        book = self.codebook
        return {"seed": layer.seed, "distribution": self.distribution, "bits": book.bits, "codebook": book.levels}


class Stored:
    """P is orthogonal, and its values are stored in the layer's buffer `projection`.

    P is the Q of the QR decomposition of a seeded Gaussian matrix, in float64, with a positive diagonal of R. The last
    bits of a QR depend on the machine, so a seed cannot reproduce the matrix exactly.
    """

    op = "PRPStoredLinear"

    @staticmethod
    def make(seed: int, n: int, m: int) -> Tensor:
        """Returns P, (m, n) float64. For m <= n the rows are orthonormal. For m > n the columns are orthogonal, with
        norm sqrt(m/n).
        """
        normal = seeded.matrix(seed, m, n, "gaussian", dtype=torch.float64, device="cpu")
        q, r = torch.linalg.qr(normal.T if m <= n else normal)
        q = torch.where(r.diagonal() < 0, -q, q)
        return q.T if m <= n else q * math.sqrt(m / n)

    def entries(self, layer: "PRPLinear", dtype: torch.dtype) -> Tensor:
        """Returns the stored P, (m, n)."""
        return self._projection(layer).to(dtype)

    def times(self, layer: "PRPLinear", u: Tensor) -> Tensor:
        """Returns u P^T, (..., n) -> (..., m)."""
        return linear(u, self._projection(layer))

    def multiply_adds(self, layer: "PRPLinear") -> int:
        """Returns n m."""
        return layer.in_features * layer.out_features

    def attributes(self, layer: "PRPLinear") -> dict[str, Attribute]:
        return {}

    @staticmethod
    def _projection(layer: "PRPLinear") -> Tensor:
        assert layer.projection is not None
        return layer.projection


class Transformed:
    """P is the first m rows and n columns of sqrt(N/n) (H / sqrt(N)) D2 (H / sqrt(N)) D1.

    N is the smallest power of two that is at least max(n, m). H is the Hadamard matrix. D1 and D2 are seeded signs,
    rows 0 and 1 of the Rademacher matrix. The rows of P are related: H D2 H has the entry g[i ^ j] at (i, j), where ^
    is the exclusive or of the indices and g = H d2. So it has N distinct values, while a random matrix has n m.
    """

    op = "PRPHadamardLinear"

    def __init__(self) -> None:
        self._cache = DeviceCache()

    def entries(self, layer: "PRPLinear", dtype: torch.dtype) -> Tensor:
        """Returns P, (m, n), computed from the exclusive or of the indices, independently of times()."""
        m, n, device = layer.out_features, layer.in_features, layer.in_scale.device
        length = hadamard.cut(n, m).length
        seed = layer.traceable_seed
        g = hadamard.transform(seeded.signs(seed, length, row=1, dtype=torch.float64, device=device))
        row, column = (torch.arange(size, dtype=torch.int32, device=device) for size in (m, n))
        signs = seeded.signs(seed, n, dtype=torch.float64, device=device)
        return (g / math.sqrt(length * n)).to(dtype)[row[:, None] ^ column] * signs.to(dtype)

    def times(self, layer: "PRPLinear", u: Tensor) -> Tensor:
        """Returns u P^T, (..., n) -> (..., m), with about 4 N sqrt(N) multiply-adds."""
        n, m, scale = layer.in_features, layer.out_features, layer.in_scale
        cut = hadamard.cut(n, m)
        first, second, high, low = self._cache.get(layer.traceable_seed, scale, lambda: self._tables(layer, cut))
        u = pad(u * first, (0, cut.rows_in * cut.low - n)).reshape(*u.shape[:-1], cut.rows_in, cut.low)
        u = torch.matmul(high[:, : cut.rows_in], torch.matmul(u, low)) * second  # (..., high, low)
        u = torch.matmul(torch.matmul(high[: cut.rows_out], u), low)  # (..., rows_out, low)
        return u.flatten(-2)[..., :m]

    def multiply_adds(self, layer: "PRPLinear") -> int:
        """Returns (rows_in + rows_out) (low^2 + low high) for both transforms, see hadamard.Cut, plus N for D2."""
        cut = hadamard.cut(layer.in_features, layer.out_features)
        return cut.multiply_adds + cut.length

    def attributes(self, layer: "PRPLinear") -> dict[str, Attribute]:
        return {"seed": layer.seed}

    @staticmethod
    def _tables(layer: "PRPLinear", cut: hadamard.Cut) -> tuple[Tensor, ...]:
        """Returns D1 / sqrt(N) (n,), D2 / sqrt(n) (high, low) and both Hadamard matrices.

        This distribution of the factors keeps the intermediate products close to u in magnitude.
        """
        n, scale = layer.in_features, layer.in_scale
        seed = layer.traceable_seed
        first = seeded.signs(seed, n, dtype=torch.float64, device=scale.device) / math.sqrt(cut.length)
        second = seeded.signs(seed, cut.length, row=1, dtype=torch.float64, device=scale.device) / math.sqrt(n)
        high, low = (hadamard.matrix(size, dtype=scale.dtype, device=scale.device) for size in (cut.high, cut.low))
        return first.to(scale.dtype), second.to(scale.dtype).view(cut.high, cut.low), high, low


def kind(distribution: str) -> Coded | Stored | Transformed:
    """Returns the kind of P for a distribution.

    Raises:
        UsageError: the distribution is unknown.
    """
    if distribution not in DISTRIBUTIONS:
        raise UsageError(f"unknown distribution {distribution!r}. Choose one of: {', '.join(DISTRIBUTIONS)}.")
    if distribution == "orthogonal":
        return Stored()
    return Transformed() if distribution == "hadamard" else Coded(distribution)
