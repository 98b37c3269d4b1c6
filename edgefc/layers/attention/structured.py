"""Multi-head attention whose four projections are structured layers.

This is our reconstruction: the papers on PRP and on circulant projections contain no attention (the PRP paper lists it
as future work). Here each projection of queries, keys, values and outputs is a structured layer with its own seed. The
computation between them is that of torch.nn.MultiheadAttention.

Symbols: N batch, L queries, S keys, E embed_dim, h heads.
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
from edgefc.layers.common.onnx_node import check_dropout, check_replaced, check_tensor, is_size, sizes
from edgefc.layers.common.seed_reading import draw_seed
from edgefc.layers.prp.linear import PRPLinear


class StructuredAttention(nn.Module):
    """torch.nn.MultiheadAttention with projections of any family: the same forward arguments and results.

        StructuredAttention(768, 12, CirculantLinear, batch_first=True)
        StructuredAttention(768, 12, functools.partial(PRPLinear, distribution="rademacher"), seed=8)
        StructuredAttention(768, 12, lambda n, m, bias, seed: BilinearLinear(n, m, bias))

    projection(in_features, out_features, bias=..., seed=...) creates q_proj, k_proj, v_proj and out_proj, in this
    order, with the seeds seed, seed + 1, seed + 2 and seed + 3. seed=None draws the first seed from torch's generator.
    If you choose seeds, increase the seed by 4 for each attention layer of a model. The layer has no parameters besides
    its projections. The state dict stores their seeds, and load_state_dict() restores them (common/checkpoint.py).

    As in torch: dropout is the fraction of attention weights dropped in training; kdim and vdim are the widths of keys
    and values, by default embed_dim; batch_first=False expects (L, N, E).

    Shapes, with batch_first=True:
        query (N, L, E)   key (N, S, kdim)   value (N, S, vdim)   or all without N
        key_padding_mask (N, S)   attn_mask (L, S) or (N h, L, S)   True: excluded; floating point: added
        output (N, L, E); with need_weights also weights (N, L, S), or (N, h, L, S) if not averaged

    Raises:
        ShapeError: sizes below 1, heads that do not divide embed_dim, or a projection with other sizes.
        UsageError: a projection that does not accept these arguments, or a seed outside 0 to 2**64 - 1.
    """

    q_proj: nn.Module
    out_proj: nn.Module

    # torch.nn.TransformerEncoderLayer checks these attributes before it uses in_proj_weight instead of forward()
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
                f"{name} cannot split embed_dim={embed_dim} into num_heads={num_heads!r} equal heads. "
                "Choose a num_heads that divides embed_dim."
            )
        self.num_heads, self.dropout, self.batch_first = int(num_heads), check_dropout(name, dropout), bool(batch_first)
        first = draw_seed() if seed is None else check_seed(seed)
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
        """The seed of q_proj, or None if it has no seed."""
        return getattr(self.q_proj, "seed", None)

    @property
    def in_proj_weight(self) -> Tensor:
        """Always raises a UsageError. torch.nn.TransformerEncoder reads this before it creates nested tensors."""
        raise UsageError(
            f"{type(self).__name__} does not accept nested tensors, which this nn.TransformerEncoder creates from "
            "padded batches. Set encoder.use_nested_tensor = False."
        )

    def reset_parameters(self) -> None:
        """Calls reset_parameters() of each projection."""
        for projection in self.projections():
            projection.reset_parameters()

    def projections(self) -> Iterator[Any]:
        """Iterates over q_proj, k_proj, v_proj and out_proj."""
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
        """The forward of torch.nn.MultiheadAttention. is_causal, a hint about attn_mask, does not change the result."""
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
        """Returns the equivalent torch.nn.MultiheadAttention, with the dense() matrix of each projection.

        Raises:
            UsageError: a projection without dense().
        """
        return as_torch(self)

    @classmethod
    def from_attention(
        cls, attention: nn.MultiheadAttention, from_linear: Callable[..., nn.Module], *, seed: int | None = None
    ) -> "StructuredAttention":
        """Returns a trained attention with each projection replaced by from_linear(linear, seed=...).

        The seeds are numbered as in the constructor.

            StructuredAttention.from_attention(attention, CirculantLinear.from_linear)
            StructuredAttention.from_attention(attention, lambda linear, seed: BilinearLinear.from_linear(linear))

        Raises:
            UsageError: an attention with add_bias_kv or add_zero_attn, or a from_linear that accepts no seed.
        """
        check_replaced(cls, attention, nn.MultiheadAttention)
        if attention.bias_k is not None or attention.add_zero_attn:
            option = "add_bias_kv" if attention.bias_k is not None else "add_zero_attn"
            raise UsageError(
                f"{cls.__name__} does not support {option}=True: it adds no key and value. "
                "Keep this attention dense, or train it without the option."
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
        """Returns the multiply-adds of the four projections, for a token that is query, key and value.

        The scores and the weighted mean of the values take 2 S embed_dim more for any kind of projection.

        Raises:
            UsageError: a projection without multiply_adds().
        """
        for name, layer in zip(PROJECTIONS, self.projections(), strict=True):
            if not hasattr(layer, "multiply_adds"):
                raise UsageError(
                    f"cannot count the multiply-adds of {name}: {type(layer).__name__} has no multiply_adds()."
                )
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
    """Returns the function width -> attention whose four projections are of the class `layer`."""

    def projection(inputs: int, outputs: int, bias: bool, seed: int) -> nn.Module:
        return layer(inputs, outputs, bias, **({"seed": seed} if seeded else {}))

    return lambda n: StructuredAttention(n, 4, projection, batch_first=True)


ENTRIES = (
    attention("StructuredAttention of circulants", circulant.PAPER, OURS, _of(CirculantLinear)),
    attention("StructuredAttention of PRP", prp.PAPER, "future work of the paper: our reconstruction", _of(PRPLinear)),
    attention("StructuredAttention of bilinears", bilinear.PAPER, OURS, _of(BilinearLinear, seeded=False)),
)
