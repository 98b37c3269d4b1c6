"""Converts between attention layers and torch.nn.MultiheadAttention."""

from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The attributes of an attention layer that hold its projections. torch stores the first three in one or three weights.
"""


@torch.no_grad()
def as_torch(layer: Any) -> nn.MultiheadAttention:
    """Returns a torch.nn.MultiheadAttention with the dense() matrices and the biases of the projections of `layer`.

    Raises:
        UsageError: a projection without dense().
    """
    projections = {name: getattr(layer, name) for name in PROJECTIONS}
    for name, projection in projections.items():
        if not hasattr(projection, "dense"):
            raise UsageError(f"{name} is a {type(projection).__name__}, which has no dense(). Use linear projections.")
    weights = {name: projection.dense() for name, projection in projections.items()}
    biases = [projection.bias for projection in projections.values()]
    like, bias = weights["out_proj"], biases[0] is not None
    result: Any = nn.MultiheadAttention(
        layer.embed_dim, layer.num_heads, layer.dropout, bias, batch_first=layer.batch_first,
        kdim=layer.kdim, vdim=layer.vdim, device=like.device, dtype=like.dtype,
    )  # fmt: skip
    result.out_proj.weight.copy_(weights.pop("out_proj"))
    if result.in_proj_weight is not None:
        result.in_proj_weight.copy_(torch.cat(list(weights.values())))
    else:
        for name, weight in weights.items():
            getattr(result, f"{name}_weight").copy_(weight)
    if bias:
        result.in_proj_bias.copy_(torch.cat(biases[:3]))
        result.out_proj.bias.copy_(biases[3])
    result.train(layer.training)
    return result  # type: ignore[no-any-return]


@torch.no_grad()
def linears_of(attention: Any) -> list[nn.Linear]:
    """Returns the projections of a torch.nn.MultiheadAttention as linear layers that share its memory.

    The order is that of PROJECTIONS.
    """
    if attention.in_proj_weight is not None:
        weights = list(attention.in_proj_weight.chunk(3))
    else:
        weights = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
    bias = attention.in_proj_bias
    biases = [None] * 3 if bias is None else list(bias.chunk(3))
    return [_linear(*pair) for pair in zip(weights, biases, strict=True)] + [attention.out_proj]


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    m, n = weight.shape
    linear = nn.Linear(n, m, bias is not None, device="meta", dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.detach())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach())
    return linear
