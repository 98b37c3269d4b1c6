"""Multi-head attention in which one matrix makes the values and, transposed, the outputs.

Source: Koyun, Toreyin, "Do deep neural networks utilize the weight space efficiently?", arXiv 2401.16438,
https://arxiv.org/abs/2401.16438.

The paper applies its principle, y = W^T F(W x), to attention too and tells of about half of the numbers; which of the
four matrices share was not to be had. All three patterns here are reconstructions of ours, and so is the
initialisation:

    vo        outputs by W_V^T; the mixing by attention weights stands where F stands; 3 of 4 matrices are stored
    vo+qk_t   and keys by W_Q^T, which makes 2 of 4, the half that the paper tells of; scores are not symmetric
    vo+qk     and keys by W_Q, 2 of 4 as well; symmetric scores, and no use of a transpose between queries and keys

Letters: E embed_dim.
"""

from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError, UsageError
from edgefc.layers.attention.conversion import linears_of
from edgefc.layers.attention.structured import StructuredAttention
from edgefc.layers.common.entry import attention
from edgefc.layers.common.onnx_node import check_replaced, check_width, layer_node, zero_bias
from edgefc.layers.tied import PAPER

TIES = ("vo", "vo+qk_t", "vo+qk")


class TiedAttention(StructuredAttention):
    """torch.nn.MultiheadAttention with matrices that are used twice; forward, masks and shapes are the same.

    Stored are, for E = 768 with biases, 1,772,544 numbers with tie="vo" and 1,182,720 with the others; torch's layer
    stores 2,362,368. Biases are not shared. Queries, keys and values all have embed_dim features.

    The state dict holds q_proj.weight, v_proj.weight and, with tie="vo", k_proj.weight, each (E, E), and four biases.

    Raises:
        ShapeError: sizes below 1, or heads that do not divide embed_dim.
        UsageError: an unknown tie.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        *,
        tie: str = "vo",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if tie not in TIES:
            raise UsageError(f"TiedAttention knows no tie={tie!r}. Choose one of: {', '.join(TIES)}.")
        made: list[_Projection] = []

        def projection(n: int, m: int, bias: bool, seed: int) -> nn.Module:
            """q, k, v, out, in this order: the second may lean on the first, the fourth leans on the third."""
            leans = len(made) == 3 or (len(made) == 1 and tie != "vo")
            transposed = len(made) == 3 or (leans and tie == "vo+qk_t")
            made.append(_Projection(n, bias, made[-1] if leans else None, transposed, device, dtype))
            return made[-1]

        super().__init__(embed_dim, num_heads, projection, dropout, bias, batch_first, seed=0)  # no projection uses it
        self.tie = tie

    @classmethod
    @torch.no_grad()
    def from_attention(cls, attention: nn.MultiheadAttention, *, tie: str = "vo") -> "TiedAttention":  # type: ignore[override]
        """The layer nearest to a trained attention in the Frobenius norm; the biases are kept.

        Each shared matrix is the mean of the two that it stands for, turned as it is used. That is a start for
        training, not a copy, since the two need not resemble each other.

        Raises:
            UsageError: an attention with add_bias_kv or add_zero_attn, or an unknown tie.
            ShapeError: keys or values of other widths than embed_dim.
        """
        check_replaced(cls, attention, nn.MultiheadAttention)
        if attention.bias_k is not None or attention.add_zero_attn:
            asked = "add_bias_kv" if attention.bias_k is not None else "add_zero_attn"
            raise UsageError(
                f"cannot take over an attention with {asked}=True: TiedAttention has no key and value of its own. "
                "Leave it dense, or train it without."
            )
        if (attention.kdim, attention.vdim) != (attention.embed_dim,) * 2:
            raise ShapeError(
                f"TiedAttention cannot share matrices at embed_dim={attention.embed_dim}, kdim={attention.kdim}, "
                f"vdim={attention.vdim}. Give an attention whose widths are all the same."
            )
        given = linears_of(attention)
        layer = cls(
            attention.embed_dim, attention.num_heads, attention.dropout, attention.in_proj_bias is not None,
            attention.batch_first, tie=tie, device=given[0].weight.device, dtype=given[0].weight.dtype,
        )  # fmt: skip
        owners: dict[_Projection, list[Tensor]] = {}
        for mine, linear in zip(layer.projections(), given, strict=True):
            weight = linear.weight.double()
            owners.setdefault(mine.owner, []).append(weight.t() if mine.transposed else weight)
            if mine.bias is not None:
                mine.bias.copy_(linear.bias)
        for owner, weights in owners.items():
            owner.matrix().copy_(torch.stack(weights).mean(0))
        return layer.train(attention.training)

    def extra_repr(self) -> str:
        return (
            f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, dropout={self.dropout}, "
            f"batch_first={self.batch_first}, tie={self.tie!r}"
        )


class _Projection(nn.Module):
    """y = x W^T + b, or x W + b where transposed; W its own, or that of another projection, which owns it.

    The owner is kept out of the module tree, so that the state dict holds W once; W is asked of the owner each time, so
    that whatever replaces the owner's W reaches both.
    """

    def __init__(
        self,
        width: int,
        bias: bool,
        owner: "_Projection | None",
        transposed: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.width, self.transposed = width, transposed
        self._lent = [owner] if owner is not None else []
        self.shared = owner is not None
        if owner is None:
            self.weight = nn.Parameter(torch.empty(width, width, device=device, dtype=dtype))
        else:
            owner.shared = True
        self.bias = nn.Parameter(torch.empty(width, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    @property
    def owner(self) -> "_Projection":
        return self._lent[0] if self._lent else self

    def matrix(self) -> Tensor:
        """W as it is stored, (E, E)."""
        return self.owner.weight

    def reset_parameters(self) -> None:
        """Xavier uniform, of the same variance for W and W^T; the bias is zero."""
        if not self._lent:
            nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.width)
        if self.shared and torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        return nn.functional.linear(x, self._turned(), self.bias)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """(E, E), as nn.Linear stores it."""
        return self._turned().clone()

    def multiply_adds(self) -> int:
        """E^2 for each token."""
        return self.width**2

    def extra_repr(self) -> str:
        told = " of the projection before, transposed" if self.transposed else " of the projection before"
        return f"{self.width}, weight{told if self._lent else ' of its own'}, bias={self.bias is not None}"

    def _turned(self) -> Tensor:
        return self.matrix().t() if self.transposed else self.matrix()

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.matrix(), self.width) if self.bias is None else self.bias
        attributes: dict[str, Any] = {
            "in_features": self.width,
            "out_features": self.width,
            "transB": int(not self.transposed),
        }
        return layer_node(self, x, (self.matrix(), bias), attributes, x.shape, op="TiedProjection")


ENTRIES = (
    attention(
        "TiedAttention, value and output",
        PAPER,
        "claimed, pattern not found: our reconstruction R1",
        lambda n: TiedAttention(n, 4, batch_first=True),
    ),
)
