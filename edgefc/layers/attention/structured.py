"""Multi-head attention whose four projections are structured layers.

Reconstruction: the papers of PRP and of circulant projections have no attention (PRP's lists it as future work). Taken
here as each of the projections of queries, keys, values and outputs by a structured layer with a seed of its own; what
stands between them is torch.nn.MultiheadAttention's.

Letters: N batch, L queries, S keys, E embed_dim, h heads.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from edgefc.errors import ShapeError, UsageError
from edgefc.generator import check_seed
from edgefc.layers import bilinear, circulant, prp
from edgefc.layers.attention.conversion import PROJECTIONS, as_torch, linears_of
from edgefc.layers.attention.masks import merged_mask
from edgefc.layers.attention.projections import check_makes, check_makes_from, check_outputs
from edgefc.layers.bilinear.linear import BilinearLinear
from edgefc.layers.circulant.linear import CirculantLinear
from edgefc.layers.common.checkpoint import mark_drawn
from edgefc.layers.common.entry import OURS, attention
from edgefc.layers.common.onnx_node import check_replaced, check_share, check_tensor, is_size, sizes
from edgefc.layers.common.seed_reading import drawn
from edgefc.layers.prp.linear import PRPLinear


class StructuredAttention(nn.Module):
    """torch.nn.MultiheadAttention with projections of any family: the same forward, the same answers.

        StructuredAttention(768, 12, CirculantLinear, batch_first=True)
        StructuredAttention(768, 12, functools.partial(PRPLinear, distribution="rademacher"), seed=8)
        StructuredAttention(768, 12, lambda n, m, bias, seed: BilinearLinear(n, m, bias))

    projection(in_features, out_features, bias=..., seed=...) makes each of q_proj, k_proj, v_proj and out_proj, in that
    order, with seeds seed, seed + 1, seed + 2 and seed + 3. seed=None draws the first from torch's generator; otherwise
    give the next attention of a model a seed that is larger by 4. The layer has no numbers of its own. The state dict
    holds the seeds of the projections, and loading adopts them (common/checkpoint.py).

    As in torch: dropout is the share of attention weights dropped in training; kdim and vdim are the widths of keys and
    values where they differ from embed_dim; batch_first=False takes (L, N, E).

    Shapes, with batch_first=True:
        query (N, L, E)   key (N, S, kdim)   value (N, S, vdim)   or all without N
        key_padding_mask (N, S)   attn_mask (L, S) or (N h, L, S)   True: not attended to; floating point: added
        answer (N, L, E) and, if asked for, weights (N, L, S), or (N, h, L, S) when not averaged

    Raises:
        ShapeError: sizes below 1, heads that do not divide embed_dim, or a projection that gives other sizes.
        UsageError: a projection that does not take those arguments, or a seed that is not of 64 bits.
    """

    q_proj: nn.Module
    out_proj: nn.Module

    # torch.nn.TransformerEncoderLayer asks for these before it reads in_proj_weight past its attention's forward
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        projection: Callable[..., nn.Module],
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.kdim, self.embed_dim = sizes(name, embed_dim if kdim is None else kdim, embed_dim)
        self.vdim, _ = sizes(name, embed_dim if vdim is None else vdim, embed_dim)
        if not is_size(num_heads) or self.embed_dim % num_heads:
            raise ShapeError(
                f"{name} cannot cut embed_dim={embed_dim} into num_heads={num_heads!r} equal heads. "
                "Choose a number of heads that divides it."
            )
        self.num_heads, self.dropout, self.batch_first = int(num_heads), check_share(name, dropout), bool(batch_first)
        first = drawn() if seed is None else check_seed(seed)
        inputs = (self.embed_dim, self.kdim, self.vdim, self.embed_dim)
        check_makes(projection, *inputs[:2], bias=bias, seed=first)
        for index, (attribute, width) in enumerate(zip(PROJECTIONS, inputs, strict=True)):
            made = projection(width, self.embed_dim, bias=bias, seed=(first + index) % 2**64)
            if seed is None:
                mark_drawn(made, (first + index) % 2**64)
            setattr(self, attribute, made)
            check_outputs(self, attribute, getattr(made, "out_features", self.embed_dim), self.embed_dim)

    @property
    def seed(self) -> int | None:
        """The seed of q_proj; None for a projection without seeds."""
        return getattr(self.q_proj, "seed", None)

    @property
    def in_proj_weight(self) -> Tensor:
        """No such weight: torch.nn.TransformerEncoder reads it before it packs padded batches."""
        raise UsageError(
            f"{type(self).__name__} takes no nested tensors, which this nn.TransformerEncoder makes of padded batches. "
            "Set encoder.use_nested_tensor = False."
        )

    def reset_parameters(self) -> None:
        """As each projection resets itself."""
        for projection in self.projections():
            projection.reset_parameters()

    def projections(self) -> Iterator[Any]:
        """q_proj, k_proj, v_proj, out_proj."""
        return (getattr(self, name) for name in PROJECTIONS)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch.nn.MultiheadAttention's. is_causal, there a hint that attn_mask is causal, changes nothing here."""
        for tensor in (query, key, value):
            check_tensor(self, tensor)
        batched = query.ndim == 3
        query, key, value = (self._batch_first(t, batched) for t in (query, key, value))
        if key_padding_mask is not None and not batched:
            key_padding_mask = key_padding_mask.unsqueeze(0)
        mask = merged_mask(self, self.num_heads, query, key, value, key_padding_mask, attn_mask, is_causal)
        tensors = zip(PROJECTIONS, (query, key, value), strict=False)
        q, k, v = (self._heads(self._project(name, tensor)) for name, tensor in tensors)
        mask = mask if mask is None else mask.to(q.dtype)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q * (1 / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
            scores = scores if mask is None else scores + mask
            weights = functional.dropout(scores.softmax(-1), dropout)
            y = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            y = functional.scaled_dot_product_attention(q, k, v, mask, dropout)
        y = self._project("out_proj", y.transpose(1, 2).flatten(2))
        if not batched:
            return y[0], weights if weights is None else weights[0]
        return y if self.batch_first else y.transpose(0, 1), weights

    def dense(self) -> nn.MultiheadAttention:
        """torch's layer with the same map: it holds dense() of each projection, which must be linear.

        Raises:
            UsageError: a projection without dense().
        """
        return as_torch(self)

    @classmethod
    def from_attention(
        cls, attention: nn.MultiheadAttention, from_linear: Callable[..., nn.Module], *, seed: int | None = None
    ) -> "StructuredAttention":
        """A trained attention with each projection replaced by from_linear(linear, seed=...), seeds as above.

            StructuredAttention.from_attention(attention, CirculantLinear.from_linear)
            StructuredAttention.from_attention(attention, lambda linear, seed: BilinearLinear.from_linear(linear))

        Raises:
            UsageError: an attention with add_bias_kv or add_zero_attn, or a from_linear that takes no seed.
        """
        check_replaced(cls, attention, nn.MultiheadAttention)
        if attention.bias_k is not None or attention.add_zero_attn:
            asked = "add_bias_kv" if attention.bias_k is not None else "add_zero_attn"
            raise UsageError(
                f"cannot take over an attention with {asked}=True: {cls.__name__} has no key and value of its own. "
                "Leave it dense, or train it without."
            )
        given = linears_of(attention)
        check_makes_from(from_linear, given[0], seed=0)
        linears = iter(given)

        def projection(n: int, m: int, bias: bool, seed: int) -> nn.Module:
            return from_linear(next(linears), seed=seed)

        result = cls(
            attention.embed_dim, attention.num_heads, projection, attention.dropout,
            attention.in_proj_bias is not None, attention.batch_first, attention.kdim, attention.vdim, seed=seed,
        )  # fmt: skip
        return result.train(attention.training)

    def multiply_adds(self) -> int:
        """Of the four projections, for a token that is query, key and value.

        Its scores and its mean of values take 2 S embed_dim more, whatever the projections are.

        Raises:
            UsageError: a projection without multiply_adds().
        """
        for name, layer in zip(PROJECTIONS, self.projections(), strict=True):
            if not hasattr(layer, "multiply_adds"):
                raise UsageError(f"cannot count {name}: a {type(layer).__name__} has no multiply_adds().")
        return sum(layer.multiply_adds() for layer in self.projections())

    def extra_repr(self) -> str:
        return (
            f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, dropout={self.dropout}, "
            f"batch_first={self.batch_first}, kdim={self.kdim}, vdim={self.vdim}, seed={self.seed}"
        )

    def _project(self, name: str, x: Tensor) -> Tensor:
        y: Tensor = getattr(self, name)(x)
        check_outputs(self, name, y.shape[-1], self.embed_dim)
        return y

    def _heads(self, tensor: Tensor) -> Tensor:
        """(N, L, E) -> (N, h, L, E / h)."""
        return tensor.reshape(*tensor.shape[:2], self.num_heads, self.embed_dim // self.num_heads).transpose(1, 2)

    def _batch_first(self, tensor: Tensor, batched: bool) -> Tensor:
        if not batched:
            return tensor.unsqueeze(0)
        return tensor if self.batch_first or tensor.ndim < 2 else tensor.transpose(0, 1)


def _of(layer: type[nn.Module], *, seeded: bool = True) -> Callable[[int], nn.Module]:
    """width -> attention whose four projections are such layers."""

    def projection(inputs: int, outputs: int, bias: bool, seed: int) -> nn.Module:
        return layer(inputs, outputs, bias, **({"seed": seed} if seeded else {}))

    return lambda n: StructuredAttention(n, 4, projection, batch_first=True)


ENTRIES = (
    attention("StructuredAttention of circulants", circulant.PAPER, OURS, _of(CirculantLinear)),
    attention("StructuredAttention of PRP", prp.PAPER, "future work of the paper: our reconstruction", _of(PRPLinear)),
    attention("StructuredAttention of bilinears", bilinear.PAPER, OURS, _of(BilinearLinear, seeded=False)),
)
