"""Bilinear embedding: the row of a token as the outer product of two short rows, never the whole table.

Source: Yu, Gao, Zhou, Zhang, "Parameter-Efficient Deep Neural Networks With Bilinear Projections", IEEE TNNLS 2021,
https://arxiv.org/abs/2011.01391, and the authors' code, https://github.com/yutao1008/Bi-DNNs.

From the authors' code: table = kron(L, R), both sizes split by the rule in factors.py, each factor
uniform in +-0.05. They make the table and look tokens up in it; its row v is vec(L[v // d2] outer R[v % d2]), which is
what is computed here. Reconstructions of ours: several terms, sizes without good factors, padding_idx, the fit to a
trained table.

Letters: V num_embeddings <= d1 d2, D embedding_dim <= u1 u2, T terms.
"""

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError, UsageError
from edgefc.layers.bilinear import kronecker
from edgefc.layers.bilinear.factors import Factored, check_terms, choose_factors
from edgefc.layers.common.onnx_node import Attribute, check_padding, check_replaced, check_tokens, is_size, layer_node

_START = 0.05  # "uniform" of Keras


class BilinearEmbedding(Factored):
    """Token v becomes sum_t vec(L_t[v // d2] outer R_t[v % d2]).

    For V = 32,000 = 160 x 200 and D = 768 = 24 x 32, one term stores 10,240 numbers; torch.nn.Embedding stores
    24,576,000. Tokens that share v // d2 or v % d2 share one of their rows.

    With padding_idx, that token becomes zeros, and the factors get no gradient from it. Tokens out of range are found
    on CPUs, outside torch.compile. An exported file does not find all of them: those from V up to d1 d2 read entries
    that were never trained, and negative ones read others.

    Shapes:
        left    (T, d1, u1)     right   (T, d2, u2)
        x       (...) int32 or int64                    y   (..., D)

    in_factors and out_factors are (d1, d2) and (u1, u2); without them the rule of the authors chooses.

    Raises:
        ShapeError: a size or a number of terms below 1, or factors whose product is below the size.
        UsageError: a padding_idx that is no token.
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
        if not (is_size(num_embeddings) and is_size(embedding_dim)):
            raise ShapeError(
                f"{name} cannot have num_embeddings={num_embeddings!r} rows of embedding_dim={embedding_dim!r}. "
                "Choose whole numbers from 1 to 2**31 - 1."
            )
        self.num_embeddings, self.embedding_dim = operator.index(num_embeddings), operator.index(embedding_dim)
        self.padding_idx = check_padding(self, padding_idx, self.num_embeddings)
        self.terms = check_terms(name, terms)
        self.in_factors = choose_factors(name, "in_factors", self.num_embeddings, in_factors)
        self.out_factors = choose_factors(name, "out_factors", self.embedding_dim, out_factors)
        self._make_factors(device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each factor uniform in +-0.05, several terms smaller so that the variance of their sum stays.

        Entries of the table are then near 0.0008, far below the N(0, 1) of torch.nn.Embedding: as the authors start.
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
        """The whole table (V, D): the sum of kron(L_t, R_t), cut, and zeros for padding_idx."""
        table = kronecker.expand(self.left, self.right, self.num_embeddings, self.embedding_dim).contiguous()
        if self.padding_idx is not None:
            table[self.padding_idx] = 0
        return table

    def multiply_adds(self) -> int:
        """T u1 u2 for each token."""
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
        """The layer near to a trained table in the Frobenius norm; some copies of the table in float64 are needed.

        The nearest of all where nothing is padded or cut; else an approximation (kronecker.nearest). How
        gradients are made (sparse, scale_grad_by_freq) is not taken over.

        Raises:
            UsageError: an embedding that renormalises its rows (max_norm).
        """
        check_replaced(cls, embedding, nn.Embedding)
        if embedding.max_norm is not None:
            raise UsageError(
                f"BilinearEmbedding cannot take the place of an Embedding with max_norm={embedding.max_norm}: it has "
                "no rows to renormalise. Set max_norm to None, once the rows are as they should be."
            )
        weight = embedding.weight
        layer = cls(
            *weight.shape, padding_idx=embedding.padding_idx, terms=terms, in_factors=in_factors,
            out_factors=out_factors, device=weight.device, dtype=weight.dtype,
        )  # fmt: skip
        layer._fit(weight)
        return layer

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f"padding_idx={self.padding_idx}, "
        return (
            f"num_embeddings={self.num_embeddings}, embedding_dim={self.embedding_dim}, {padding}"
            f"terms={self.terms}, in_factors={self.in_factors}, out_factors={self.out_factors}"
        )

    def _check_range(self, x: Tensor) -> None:
        """Look at the tokens where that is cheap and possible; elsewhere the lookup itself may find some.

        Raises:
            UsageError: a token that is no entry.
        """
        if torch.compiler.is_compiling() or x.device.type != "cpu" or not x.numel():
            return
        try:
            low, high = (int(value) for value in x.aminmax())
        except RuntimeError:  # torch.func.vmap lets nobody look
            return
        if low < 0 or high >= self.num_embeddings:
            raise UsageError(
                f"{type(self).__name__} has tokens 0 to {self.num_embeddings - 1} and was given some from {low} to "
                f"{high}. Give tokens of this vocabulary, or make num_embeddings larger."
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
