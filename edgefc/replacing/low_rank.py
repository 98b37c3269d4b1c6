"""The layers of a low rank: LowRankLinear, or two layers in sequence for tables and for factors of a few bits."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.fitting.rounding import group_of
from edgefc.plan.configurations import Half, Int8, LowRank
from edgefc.replacing.finding import LINEAR, TABLE, Target
from edgefc.replacing.likeness import sizes_of, tensor_like, where_of
from edgefc.replacing.serving import SERVICES


def parts_of(target: Target, configuration: LowRank) -> list[Any]:
    """The layers of a low rank with initial values: one, or two in sequence."""
    module: Any = target.module
    where = where_of(module)
    if target.kind == TABLE:
        rows, features = module.num_embeddings, module.embedding_dim
        rank = configuration.rank_for(features, rows)
        table, linear = _storage(configuration, target.kind)
        parts = [table(rows, rank, padding_idx=module.padding_idx, **where), linear(rank, features, False, **where)]
        _to_unit_variance(parts[1])
        return parts
    n, m, bias = sizes_of(module)
    rank = configuration.rank_for(n, m)
    if configuration.storage is None:
        return [SERVICES[LINEAR][LowRank].cls(n, m, bias, rank=rank, **where)]
    first, second = _storage(configuration, target.kind)
    parts = [first(n, rank, False, **where), second(rank, m, bias, **where)]
    _to_unit_variance(parts[0])
    return parts


def holding(target: Target, configuration: LowRank, fitted: Any) -> nn.Module:
    """The layers of a low rank with the values of a fit."""
    parts = parts_of(target, configuration)
    if len(parts) == 1:
        made: nn.Module = type(parts[0]).from_fit(fitted, target.module)
        return made
    if target.kind == LINEAR:
        values = (fitted.down, fitted.up)
    elif configuration.storage is None:
        parts[0].weight.copy_(tensor_like(fitted.left, parts[0].weight))
        parts[1].weight.copy_(tensor_like(fitted.right.T, parts[1].weight))
        return nn.Sequential(*parts)
    else:
        values = (fitted.left, dataclasses.replace(fitted.right, weight=fitted.right.weight.T))
    where = where_of(target.module)
    layers = (type(part).from_fit(each, _plain(part, where)) for part, each in zip(parts, values, strict=True))
    return nn.Sequential(*layers)


@torch.no_grad()
def _to_unit_variance(layer: Any) -> None:
    """Multiplies new weights by sqrt(3): inputs of variance 1 give outputs of variance 1 instead of 1/3.

    The two layers together then have the variance of one: 1/3 as nn.Linear, or 1 as nn.Embedding.
    """
    for name in ("weight", "half_weight", "scales"):
        weight = getattr(layer, name, None)
        if isinstance(weight, Tensor):
            weight.mul_(math.sqrt(3))
            return


def _storage(configuration: LowRank, kind: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The classes of both factors. The second factor of a table is small, and has 16 bits at least."""
    if configuration.storage is None:
        return (nn.Embedding if kind == TABLE else nn.Linear), nn.Linear
    if configuration.storage == "half":
        return SERVICES[kind][Half].cls, SERVICES[LINEAR][Half].cls
    if kind == TABLE:
        return functools.partial(_eight_bits, TABLE, 1), SERVICES[LINEAR][Half].cls
    return functools.partial(_eight_bits, LINEAR, 0), functools.partial(_eight_bits, LINEAR, 0)


def _eight_bits(kind: str, axis: int, *sizes: int, **keywords: Any) -> Any:
    """A factor in 8 bits. sizes[axis] is the number of weights in a row, which decides the group as in the fit."""
    return SERVICES[kind][Int8].cls(*sizes, bits=8, group=group_of(sizes[axis]), **keywords)


def _plain(layer: Any, where: dict[str, Any]) -> nn.Module:
    """A torch layer of the same sizes."""
    if hasattr(layer, "num_embeddings"):
        return nn.Embedding(layer.num_embeddings, layer.embedding_dim, layer.padding_idx, **where)
    return nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, **where)
