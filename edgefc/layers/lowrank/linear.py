"""Low-rank layer: the weight is the product of a tall and a wide matrix.

Source: Sainath, Kingsbury, Sindhwani, Arisoy, Ramabhadran, "Low-rank Matrix Factorization for Deep Neural Network
Training with High-dimensional Output Targets", ICASSP 2013, https://doi.org/10.1109/ICASSP.2013.6638949.

From the paper: two linear layers without an activation between them in the place of one. Our additions: the initial
values, and the fit to a trained layer by a truncated SVD (Eckart & Young, "The Approximation of One Matrix by Another
of Lower Rank", 1936).

Symbols: n inputs, m outputs, r rank.
"""

import math
import operator
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.low_rank import LowRankFit
from edgefc.layers.common.entry import linear
from edgefc.layers.common.fits import FromFit, sized
from edgefc.layers.common.low_rank import nearest_low_rank
from edgefc.layers.common.no_weight import no_weight
from edgefc.layers.common.onnx_node import check_finite, check_width, is_size, layer_node, sizes, zero_bias
from edgefc.layers.common.trained import trained_linear
from edgefc.layers.lowrank import CLAIM, PAPER


class LowRankLinear(FromFit, nn.Module):
    """Computes up (down x) + bias.

    For n = m = 4096 and rank 512, up and down have 4,194,304 parameters and need as many multiply-adds per row; a dense
    layer has 16,777,216 of each. The layer is smaller than a dense one if r < n m / (n + m).

    Shapes:
        down    (r, n)      up      (m, r)      bias    (m,) or None
        x       (..., n)                        y       (..., m)

    Raises:
        ShapeError: a size below 1, or a rank that is not an integer from 1 to min(n, m).
    """

    weight = property(no_weight)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rank: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = sizes(type(self).__name__, in_features, out_features)
        self.rank = _check_rank(type(self).__name__, rank, min(self.in_features, self.out_features))
        self.down = nn.Parameter(torch.empty(self.rank, self.in_features, device=device, dtype=dtype))
        self.up = nn.Parameter(torch.empty(self.out_features, self.rank, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(self.out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws down from U(-a, a), a = sqrt(3/n), and up from U(-b, b), b = 1/sqrt(r). The bias is zero.

        Then inputs of variance 1 give inner values of variance 1 and outputs of variance 1/3, the same as for the
        weight of a new torch.nn.Linear.
        """
        nn.init.uniform_(self.down, -math.sqrt(3 / self.in_features), math.sqrt(3 / self.in_features))
        nn.init.uniform_(self.up, -1 / math.sqrt(self.rank), 1 / math.sqrt(self.rank))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        return nn.functional.linear(nn.functional.linear(x, self.down), self.up, self.bias)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the dense matrix (m, n) of the layer: up down."""
        return self.up @ self.down

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per row: r (n + m)."""
        return self.rank * (self.in_features + self.out_features)

    @classmethod
    @torch.no_grad()
    def from_linear(cls, linear: nn.Module, *, rank: int | None = None, ratio: float | None = None) -> "LowRankLinear":
        """Returns the layer of this rank that is nearest to a trained linear layer in the Frobenius norm.

        `linear` is a torch.nn.Linear or a transformers Conv1D. Its bias, dtype, device, mode and requires_grad are
        kept. ratio=4 instead of a rank chooses the largest rank with at most a quarter of the values of the dense
        matrix, and at least 1.

        Raises:
            ShapeError: a rank that is not an integer from 1 to min(n, m).
            UsageError: another kind of module, a weight that is not finite, both or neither of rank and ratio, or a
                ratio that is not a number from 1.
        """
        trained = trained_linear(cls, linear)
        check_finite(trained.weight)
        chosen = _chosen_rank(cls.__name__, trained.in_features, trained.out_features, rank, ratio)
        layer = sized(cls, trained, trained.bias is not None, rank=chosen)
        up, across = nearest_low_rank(trained.weight, layer.rank)
        layer.down.copy_(across.T)
        layer.up.copy_(up)
        if layer.bias is not None and trained.bias is not None:
            layer.bias.copy_(trained.bias)
        return trained.copy_flags_to(layer)

    @staticmethod
    def _settings(fit: LowRankFit) -> dict[str, Any]:
        return {"rank": len(fit.down)}

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"rank={self.rank}"
        )

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.up, self.out_features) if self.bias is None else self.bias
        attributes = {"in_features": self.in_features, "out_features": self.out_features, "rank": self.rank}
        shape = (*x.shape[:-1], self.out_features)
        return layer_node(self, x, (self.down, self.up, bias), attributes, shape, op="LowRankLinear")


def rank_of_ratio(n: int, m: int, ratio: float) -> int:
    """Returns the largest rank with at most n m / ratio values, at least 1."""
    return max(1, int(n * m / (ratio * (n + m))))


def _chosen_rank(name: str, n: int, m: int, rank: int | None, ratio: float | None) -> int:
    if (rank is None) == (ratio is None):
        given = "neither" if rank is None else f"rank={rank!r} and ratio={ratio!r}"
        raise UsageError(f"{name}.from_linear needs a rank or a ratio, got {given}. Pass one of them.")
    if ratio is None:
        return rank  # type: ignore[return-value]
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 1 <= ratio < math.inf:
        raise UsageError(f"{name} does not support ratio={ratio!r}. Choose a number from 1, such as 4.")
    return rank_of_ratio(n, m, ratio)


def _check_rank(name: str, rank: int, most: int) -> int:
    if is_size(rank) and operator.index(rank) <= most:
        return operator.index(rank)
    raise ShapeError(f"{name} does not support rank={rank!r}. Choose an integer from 1 to {most}.")


ENTRIES = (
    linear(
        "LowRankLinear, ratio 4",
        PAPER,
        CLAIM,
        lambda n, m: LowRankLinear(n, m, rank=rank_of_ratio(n, m, 4)),
        "mnist-mlp",
    ),
)
