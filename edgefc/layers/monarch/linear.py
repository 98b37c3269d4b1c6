"""Monarch layer: two block-diagonal matrices with a permutation between them.

Source: Dao et al., "Monarch: Expressive Structured Matrices for Efficient and Accurate Training", ICML 2022,
https://arxiv.org/abs/2204.00595, section 3.

From the paper: y = (P' L P R) x, where R and L are block-diagonal, and P reads a matrix by columns that was written by
rows; the nearest Monarch matrix follows from one truncated SVD per block. Our choices: the outputs are in the order of
the blocks, so the last permutation P' is left out; both factors have the same number of blocks, as in the authors'
code; sizes that the number of blocks does not divide are zero-padded and cut; the width can be chosen.

Symbols: n inputs, m outputs, b blocks, p = ceil(n / b) inputs and o = ceil(m / b) outputs per block, w inner values
per block (the width).
"""

import operator
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError
from edgefc.fitting.monarch import MonarchFit, fit_monarch
from edgefc.layers.common.entry import linear
from edgefc.layers.common.fits import FromFit, arrays, filled, sized
from edgefc.layers.common.no_weight import no_weight
from edgefc.layers.common.onnx_node import check_width, is_size, layer_node, sizes, zero_bias
from edgefc.layers.common.trained import trained_linear
from edgefc.layers.monarch import CLAIM, PAPER


class MonarchLinear(FromFit, nn.Module):
    """Computes L P R x + bias, with R = diag(first[0], ..., first[b - 1]) and L = diag(second[0], ..., second[b - 1]).

    1. x is zero-padded at the end to b p values and cut into b blocks of p. Block j becomes first[j] x_j, w values.
    2. P: the values are written as a (b, w) matrix, one block per row, and read by columns. So value t of block j
       moves to place t b + j. The result is again cut into b blocks of w.
    3. Block i becomes second[i] h_i, o values. Values beyond m are dropped.

    Every part (i, j) of o rows and p columns of the dense matrix has rank w / b, rounded up or down, so a width of
    b min(p, o) can represent any matrix. The default width min(p, o) is that of the paper. For n = m = 4096 and 64
    blocks, the factors have 524,288 parameters and need as many multiply-adds per row; a dense layer has 16,777,216 of
    each. With 4 blocks they have half of those of a dense layer.

    Shapes:
        first   (b, w, p)       second  (b, o, w)       bias    (m,) or None
        x       (..., n)                                y       (..., m)

    Raises:
        ShapeError: a size below 1, a number of blocks that is not an integer from 1 to min(n, m), or a width that is
            not an integer from 1 to b min(p, o).
    """

    weight = property(no_weight)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        blocks: int = 4,
        width: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        n, m = self.in_features, self.out_features = sizes(name, in_features, out_features)
        b = self.blocks = _checked(name, "blocks", blocks, min(n, m))
        p, o = -(-n // b), -(-m // b)
        w = self.width = min(p, o) if width is None else _checked(name, "width", width, b * min(p, o))
        self.first = nn.Parameter(torch.empty(b, w, p, device=device, dtype=dtype))
        self.second = nn.Parameter(torch.empty(b, o, w, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(m, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws first from U(-a, a), a = sqrt(3/p), and second from U(-c, c), c = 1/sqrt(w). The bias is zero.

        Then inputs of variance 1 give inner values of variance 1 and outputs of variance 1/3, the same as for the
        weight of a new torch.nn.Linear. If the inputs are padded, both are slightly smaller.
        """
        inputs = self.first.shape[2]
        nn.init.uniform_(self.first, -((3 / inputs) ** 0.5), (3 / inputs) ** 0.5)
        nn.init.uniform_(self.second, -(self.width**-0.5), self.width**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        b, w, p = self.first.shape
        x = nn.functional.pad(x, (0, b * p - self.in_features)).reshape(*x.shape[:-1], b, p)
        inner = torch.einsum("bwp,...bp->...bw", self.first, x)
        inner = inner.mT.reshape(*inner.shape[:-2], b, w)
        y = torch.einsum("bow,...bw->...bo", self.second, inner).flatten(-2)[..., : self.out_features]
        return y if self.bias is None else y + self.bias

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the dense matrix (m, n) of the layer: the rows of R in the order of P, multiplied by each block of L.

        It needs m n w multiply-adds, and 1/o of its memory is used for R in addition.
        """
        b, w, p = self.first.shape
        place = torch.arange(b * w, device=self.first.device)
        rows = self.first.new_zeros(b * w, b, p)
        rows[place, place % b] = self.first[place % b, place // b]
        full = self.second @ rows.view(b, w, b * p)  # (b, o, b p)
        return full.flatten(0, 1)[: self.out_features, : self.in_features].contiguous()

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per row, including padding: b w (p + o)."""
        return self.first.numel() + self.second.numel()

    @classmethod
    def from_linear(cls, linear: nn.Module, *, blocks: int = 4, width: int | None = None) -> "MonarchLinear":
        """Returns the layer that is nearest to a trained linear layer in the Frobenius norm.

        `linear` is a torch.nn.Linear or a transformers Conv1D. Its bias, dtype, device, mode and requires_grad are
        kept. Each part (i, j) of the weight is replaced by its truncated SVD, which is the optimum.

        Raises:
            ShapeError: blocks or width as in the constructor.
            UsageError: another kind of module, or a weight that is not finite.
        """
        trained = trained_linear(cls, linear)
        layer = sized(cls, trained, trained.bias is not None, blocks=blocks, width=width)
        weight, bias = arrays(trained)
        return filled(layer, fit_monarch(weight, bias, None, layer.blocks, layer.width), trained)

    @staticmethod
    def _settings(fit: MonarchFit) -> dict[str, Any]:
        return {"blocks": fit.first.shape[0], "width": fit.first.shape[1]}

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"blocks={self.blocks}, width={self.width}"
        )

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.second, self.out_features) if self.bias is None else self.bias
        attributes = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "blocks": self.blocks,
            "width": self.width,
        }
        shape = (*x.shape[:-1], self.out_features)
        return layer_node(self, x, (self.first, self.second, bias), attributes, shape, op="MonarchLinear")


def _checked(name: str, argument: str, value: int, most: int) -> int:
    if is_size(value) and operator.index(value) <= most:
        return operator.index(value)
    raise ShapeError(f"{name} does not support {argument}={value!r}. Choose an integer from 1 to {most}.")


def _blocks_of(n: int, m: int) -> int:
    """Four blocks, or fewer if a side is smaller."""
    return min(4, n, m)


ENTRIES = (
    linear(
        "MonarchLinear, 4 blocks",
        PAPER,
        CLAIM,
        lambda n, m: MonarchLinear(n, m, blocks=_blocks_of(n, m)),
        "mnist-mlp",
    ),
)
