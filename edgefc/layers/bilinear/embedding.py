"""Bilinear embedding: computes the row of a token as the outer product of two short rows, without the whole table.

Source: Yu, Gao, Zhou, Zhang, "Parameter-Efficient Deep Neural Networks With Bilinear Projections", IEEE TNNLS 2021,
https://arxiv.org/abs/2011.01391, and the authors' code, https://github.com/yutao1008/Bi-DNNs.

From the authors' code: table = kron(L, R), both sizes split by the rule in factors.py, each factor uniform in +-0.05.
The authors build the table and look tokens up in it. Its row v is vec(L[v // d2] outer R[v % d2]), which this layer
computes directly.

Our reconstructions: several terms, sizes without good factors, padding_idx, the fit to a trained table.

Symbols: V num_embeddings <= d1 d2, D embedding_dim <= u1 u2, T terms.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.layers.bilinear import CLAIM, PAPER, kronecker
from edgefc.layers.bilinear.factors import Factored, check_terms, choose_factors
from edgefc.layers.common.entry import embedding
from edgefc.layers.common.onnx_node import Attribute, check_padding, check_tokens, layer_node
from edgefc.layers.common.tables import check_table, table_repr, table_sizes

_START = 0.05  # "uniform" of Keras


class BilinearEmbedding(Factored):
    """Maps token v to sum_t vec(L_t[v // d2] outer R_t[v % d2]).

    For V = 32,000 = 160 x 200 and D = 768 = 24 x 32, one term stores 10,240 parameters; torch.nn.Embedding stores
    24,576,000. Tokens with the same v // d2 or v % d2 share a row of the left or right factor.

    The token padding_idx becomes zeros, and the factors get no gradient from it. Tokens out of range raise an error on
    the CPU, outside torch.compile. An exported file does not detect all of them: tokens from V to d1 d2 - 1 read
    entries that were never trained, and negative tokens read the entries of other tokens.

    Shapes:
        left    (T, d1, u1)     right   (T, d2, u2)
        x       (...) int32 or int64                    y   (..., D)

    in_factors and out_factors are (d1, d2) and (u1, u2). The default follows the rule in factors.py.

    Raises:
        ShapeError: a size or a number of terms below 1, or factors whose product is below the size.
        UsageError: a padding_idx out of range.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        terms: int = 1,
        in_factors: Sequence[int] | None = None,
        out_factors: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.num_embeddings, self.embedding_dim = table_sizes(name, num_embeddings, embedding_dim)
        self.padding_idx = check_padding(self, padding_idx, self.num_embeddings)
        self.terms = check_terms(name, terms)
        self.in_factors = choose_factors(name, "in_factors", self.num_embeddings, in_factors)
        self.out_factors = choose_factors(name, "out_factors", self.embedding_dim, out_factors)
        self._make_factors(device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws each factor uniformly from +-0.05, scaled so that the variance of the sum does not depend on the number
        of terms.

        As in the authors' code, the entries of the table are near 0.0008, far below the N(0, 1) of torch.nn.Embedding.
        """
        bound = _START * self.terms**-0.25
        for factor in (self.left, self.right):
            nn.init.uniform_(factor, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        check_tokens(self, x)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        self._check_range(x)
        tokens, d2 = x.flatten(), self.in_factors[1]
        left = self.left.index_select(1, tokens // d2)  # (T, N, u1)
        right = self.right.index_select(1, tokens % d2)  # (T, N, u2)
        rows = torch.einsum("tnu,tnv->nuv", left, right).flatten(1)[:, : self.embedding_dim]
        if self.padding_idx is not None:
            rows = rows * (tokens != self.padding_idx).unsqueeze(1)
        return rows.reshape(*x.shape, self.embedding_dim)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the whole table (V, D): the truncated sum of kron(L_t, R_t), with zeros at padding_idx."""
        table = kronecker.expand(self.left, self.right, self.num_embeddings, self.embedding_dim).contiguous()
        if self.padding_idx is not None:
            table[self.padding_idx] = 0
        return table

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per token: T u1 u2."""
        return self.terms * self.out_factors[0] * self.out_factors[1]

    @classmethod
    @torch.no_grad()
    def from_embedding(
        cls,
        embedding: nn.Embedding,
        *,
        terms: int = 1,
        in_factors: Sequence[int] | None = None,
        out_factors: Sequence[int] | None = None,
    ) -> "BilinearEmbedding":
        """Returns a layer fitted to a trained table in the Frobenius norm. Needs several float64 copies of the table.

        The fit is optimal if no size is padded or cut. Otherwise it is an approximation (kronecker.nearest). The
        gradient options (sparse, scale_grad_by_freq) are not copied.

        Raises:
            UsageError: an embedding with max_norm, which renormalises its rows.
        """
        check_table(cls, embedding)
        weight = embedding.weight
        layer = cls(
            *weight.shape, padding_idx=embedding.padding_idx, terms=terms, in_factors=in_factors,
            out_factors=out_factors, device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
        layer._fit(weight)
        return layer

    def extra_repr(self) -> str:
        return f"{table_repr(self)}terms={self.terms}, in_factors={self.in_factors}, out_factors={self.out_factors}"

    def _check_range(self, x: Tensor) -> None:
        """Checks the range of the tokens if that is possible and cheap. Otherwise the lookup may raise an error.

        Raises:
            UsageError: a token out of range.
        """
        if torch.compiler.is_compiling() or x.device.type != "cpu" or not x.numel():
            return
        try:
            low, high = (int(value) for value in x.aminmax())
        except RuntimeError:  # the values cannot be read under torch.func.vmap
            return
        if low < 0 or high >= self.num_embeddings:
            raise UsageError(
                f"{type(self).__name__} expects tokens from 0 to {self.num_embeddings - 1}, got tokens from {low} to "
                f"{high}. Use tokens in this range, or increase num_embeddings."
            )

    def _symbolic(self, x: Tensor) -> Tensor:
        attributes: dict[str, Attribute] = {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "padding_idx": -1 if self.padding_idx is None else self.padding_idx,
            "in_factors": self.in_factors,
            "out_factors": self.out_factors,
            "terms": self.terms,
        }
        shape = (*x.shape, self.embedding_dim)
        weights = (self.left, self.right)
        return layer_node(self, x, weights, attributes, shape, op="BilinearEmbedding", dtype=self.left.dtype)


ENTRIES = (embedding("BilinearEmbedding", PAPER, CLAIM, lambda n: BilinearEmbedding(16 * n, n), "bilinear-embedding"),)
