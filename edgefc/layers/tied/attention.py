"""Multi-head attention with shared matrices: the output projection is the transpose of the value projection.

Source: Koyun, Toreyin, "Do deep neural networks utilize the weight space efficiently?", arXiv 2401.16438,
https://arxiv.org/abs/2401.16438.

The paper applies its principle, y = W^T F(W x), to attention as well and reports about half of the parameters. Which
of the four matrices it shares was not available. All three patterns here are our reconstructions, and so is the
initialisation:

    vo        the outputs use W_V^T, and the weighted mean of attention is F; 3 of 4 matrices are stored
    vo+qk_t   in addition the keys use W_Q^T; 2 of 4 are stored, half as in the paper; scores are not symmetric
    vo+qk     in addition the keys use W_Q, without a transpose; 2 of 4 are stored; scores are symmetric

Symbols: E embed_dim.
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
    """torch.nn.MultiheadAttention with matrices that are used twice. Forward, masks and shapes are the same.

    For E = 768 with biases, the layer stores 1,772,544 parameters with tie="vo" and 1,182,720 with the other ties;
    torch.nn.MultiheadAttention stores 2,362,368. Biases are not shared. Queries, keys and values must have embed_dim
    features.

    The state dict stores q_proj.weight, v_proj.weight and, with tie="vo", k_proj.weight, each (E, E), and four biases.

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
            raise UsageError(f"TiedAttention does not support tie={tie!r}. Choose one of: {', '.join(TIES)}.")
        made: list[_Projection] = []

        def projection(n: int, m: int, bias: bool, seed: int) -> nn.Module:
            """Creates q, k, v and out, in this order. out shares the matrix of v, and k may share that of q."""
            shares = len(made) == 3 or (len(made) == 1 and tie != "vo")
            transposed = len(made) == 3 or (shares and tie == "vo+qk_t")
            made.append(_Projection(n, bias, made[-1] if shares else None, transposed, device, dtype))
            return made[-1]

        # the projections do not use the seed
        super().__init__(embed_dim, num_heads, projection, dropout, bias, batch_first, seed=0)
        self.tie = tie

    @classmethod
    @torch.no_grad()
    def from_attention(cls, attention: nn.MultiheadAttention, *, tie: str = "vo") -> "TiedAttention":  # type: ignore[override]
        """Returns the layer nearest to a trained attention in the Frobenius norm. Keeps the biases.

        Each shared matrix is the mean of the two that it replaces, transposed where necessary. The two may differ
        strongly, so the result is a starting point for training, not an equivalent layer.

        Raises:
            UsageError: an attention with add_bias_kv or add_zero_attn, or an unknown tie.
            ShapeError: kdim or vdim differs from embed_dim.
        """
        check_replaced(cls, attention, nn.MultiheadAttention)
        if attention.bias_k is not None or attention.add_zero_attn:
            option = "add_bias_kv" if attention.bias_k is not None else "add_zero_attn"
            raise UsageError(
                f"TiedAttention does not support {option}=True: it adds no key and value. "
                "Keep this attention dense, or train it without the option."
            )
        if (attention.kdim, attention.vdim) != (attention.embed_dim,) * 2:
            raise ShapeError(
                f"TiedAttention does not support embed_dim={attention.embed_dim}, kdim={attention.kdim}, "
                f"vdim={attention.vdim}. Use an attention in which the three are equal."
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
    """Computes y = x W^T + b, or x W + b if transposed. W belongs to this projection or to another one, its owner.

    The owner is not a submodule, so the state dict stores W once. Each call reads W from the owner, so a replacement of
    the owner's W affects both.
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
        self._owners = [owner] if owner is not None else []
        self.shared = owner is not None
        if owner is None:
            self.weight = nn.Parameter(torch.empty(width, width, device=device, dtype=dtype))
        else:
            owner.shared = True
        self.bias = nn.Parameter(torch.empty(width, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    @property
    def owner(self) -> "_Projection":
        return self._owners[0] if self._owners else self

    def matrix(self) -> Tensor:
        """Returns the stored W, (E, E)."""
        return self.owner.weight

    def reset_parameters(self) -> None:
        """Draws W by Xavier uniform, whose variance is the same for W and W^T. The bias is zero."""
        if not self._owners:
            nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.width)
        if self.shared and torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        return nn.functional.linear(x, self._effective_weight(), self.bias)

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the matrix (E, E), in the layout of nn.Linear."""
        return self._effective_weight().clone()

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per token: E^2."""
        return self.width**2

    def extra_repr(self) -> str:
        owner = "previous projection" if self._owners else "own"
        return f"{self.width}, weight={owner}, transposed={self.transposed}, bias={self.bias is not None}"

    def _effective_weight(self) -> Tensor:
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
        "claimed; the sharing pattern is our reconstruction",
        lambda n: TiedAttention(n, 4, batch_first=True),
    ),
)
