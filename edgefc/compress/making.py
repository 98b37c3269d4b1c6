"""Makes the layer of a configuration for a trained one: with initial values, or fitted to what the trained layer did.

The fits are those of edgefc.fitting. A convolution is fitted as a linear layer of its patches.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc.compress.finding import BOTTLENECK, CONVOLUTION, LINEAR, PAIR, RECURRENT, TABLE, Target
from edgefc.compress.serving import SERVICES
from edgefc.compress.statistics import Statistics
from edgefc.errors import UsageError
from edgefc.fitting import registry
from edgefc.fitting.error import corrected_bias, cost_matrix, output_error
from edgefc.fitting.fitted import Fitted
from edgefc.fitting.moments import Moments, TokenCounts
from edgefc.fitting.rounding import group_of
from edgefc.fitting.solve import fit, fit_table
from edgefc.layers.common.effective import effective_tensors
from edgefc.layers.common.trained import trained_linear
from edgefc.layers.quantized.corrected import CorrectedLinear
from edgefc.layers.quantized.half import HalfLinear
from edgefc.layers.tied.bottleneck import TiedBottleneck
from edgefc.layers.tied.ffn import TiedFFN
from edgefc.plan.configurations import Configuration, Half, Int2, Int8, LowRank, Tied

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Made:
    """A new layer.

    Attributes:
        error        the relative error of its outputs, if it was fitted: sqrt(tr D C D^T / tr W C W^T)
        error_plain  that of a fit without the statistics of the inputs
    """

    layer: nn.Module
    error: float | None = None
    error_plain: float | None = None


def serves(configuration: Configuration, kind: str) -> bool:
    """Whether the configuration can replace layers of this kind."""
    if kind in (PAIR, BOTTLENECK):
        return isinstance(configuration, Tied)
    return type(configuration) in SERVICES.get(kind, {})


def kinds_of(configuration: Configuration) -> list[str]:
    """The kinds of layers that the configuration can replace."""
    return [kind for kind in (*SERVICES, PAIR, BOTTLENECK) if serves(configuration, kind)]


@torch.no_grad()
def make_new(target: Target, given: Configuration, seed: int) -> nn.Module:
    """Returns the layer with initial values. Its sizes, dtype, device, mode and requires_grad are those of the target.

    Raises:
        UsageError: the layer does not support the target.
    """
    if target.kind in (PAIR, BOTTLENECK):
        tied: nn.Module = _tied(target)
        tied.reset_parameters()  # type: ignore[operator]
        return tied
    _check_padding(target)
    parts = _parts(target, _for_kind(given, target), seed)
    layer = parts[0] if len(parts) == 1 else nn.Sequential(*parts)
    return _like(layer, target.module)


@torch.no_grad()
def make_fitted(target: Target, given: Configuration, statistics: Statistics, seed: int) -> Made:
    """Returns the layer fitted to the target, as in make_new().

    Raises:
        UsageError: the layer does not support the target, or a weight is not finite.
    """
    if target.kind in (PAIR, BOTTLENECK):
        return Made(_tied(target))
    configuration = _for_kind(given, target)
    _check_padding(target)
    if target.kind == TABLE:
        return _fitted_table(target, configuration, statistics, seed)
    if target.kind == RECURRENT:
        service = SERVICES[RECURRENT][type(configuration)]
        return Made(_like(service.cls.from_lstm(target.module, **service.settings(configuration, seed)), target.module))
    return _fitted_matrix(target, configuration, statistics, seed)


def _fitted_matrix(target: Target, configuration: Configuration, statistics: Statistics, seed: int) -> Made:
    weight, bias = weight_of(target)
    moments = statistics if isinstance(statistics, Moments) and statistics.count else None
    c = cost_matrix(bias, moments)
    if target.kind == CONVOLUTION and not _holds_fit(configuration):
        layer = _nearest(target, configuration, seed)
        matrix = _numpy(layer.dense()).reshape(weight.shape)
        if moments is not None and getattr(layer, "bias", None) is not None:
            layer.bias.copy_(_tensor(corrected_bias(weight, matrix, bias, moments), layer.bias))
        return Made(_like(layer, target.module), output_error(weight, matrix, c))
    fitted = fit(configuration, weight, bias, moments, seed)
    error = output_error(weight, fitted.dense(), c)
    plain = None if moments is None else fit(configuration, weight, bias, None, seed)
    return Made(
        _like(_holding(target, configuration, fitted), target.module),
        error,
        None if plain is None else output_error(weight, plain.dense(), c),
    )


def _fitted_table(target: Target, configuration: Configuration, statistics: Statistics, seed: int) -> Made:
    counts = statistics.counts if isinstance(statistics, TokenCounts) else None
    table, _ = weight_of(target)
    if type(configuration).__name__ not in fitted_tables():
        layer = _nearest(target, configuration, seed)
        return Made(_like(layer, target.module), table_error(table, _numpy(layer.dense()), counts))
    fitted = fit_table(configuration, table, counts, seed)
    layer = _like(_holding(target, configuration, fitted), target.module)
    plain = None if counts is None else fit_table(configuration, table, None, seed)
    return Made(
        layer,
        table_error(table, fitted.dense(), counts),
        None if plain is None else table_error(table, plain.dense(), counts),
    )


def table_error(table: Array, fitted: Array, counts: Any) -> float:
    """Returns the relative error of the looked-up rows, each weighted by counts + 1."""
    weights = np.ones(len(table)) if counts is None else counts + 1.0
    error, whole = (float(weights @ np.square(rows).sum(1)) for rows in (table - fitted, table))
    return 0.0 if error == 0 else float(np.sqrt(error / whole)) if whole else float("inf")


def fitted_tables() -> frozenset[str]:
    """The configurations for which edgefc.fitting fits tables."""
    return frozenset(registry.TABLES)


def weight_of(target: Target) -> tuple[Array, Array | None]:
    """Returns the effective weight of a target as a matrix (m, n) in float64, and its bias (m,).

    n is the size of a patch for a convolution; (m, n) is (rows, features) for an embedding.
    """
    module: Any = target.module
    if target.kind == LINEAR:
        trained = trained_linear(nn.Linear, module)
        return _numpy(trained.weight), None if trained.bias is None else _numpy(trained.bias)
    computed = effective_tensors(module)
    bias = computed.get("bias", getattr(module, "bias", None))
    weight = _numpy(computed.get("weight", module.weight))
    return weight.reshape(len(weight), -1), None if bias is None else _numpy(bias)


def _parts(target: Target, configuration: Configuration, seed: int) -> list[Any]:
    """The new layers in the place of one, in order: two for a low rank with its own storage, else one."""
    kind, module = target.kind, target.module
    if isinstance(configuration, LowRank):
        return _low_rank_parts(target, configuration)
    service = SERVICES[kind][type(configuration)]
    settings = {**service.settings(configuration, seed), **_where(module)}
    if kind == LINEAR and isinstance(configuration, Int2) and configuration.rank:
        n, m, _ = _sizes(module)
        rank = min(configuration.rank, n, m)
        down, up = (HalfLinear(*sizes, False, **_where(module)) for sizes in ((n, rank), (rank, m)))
        return [CorrectedLinear(service.cls(*_sizes(module), **settings), down, up)]
    arguments, keywords = _arguments(target)
    return [service.cls(*arguments, **keywords, **settings)]


def _arguments(target: Target) -> tuple[Sequence[Any], dict[str, Any]]:
    """The arguments of the torch layer, for the constructor of a layer that replaces it."""
    module: Any = target.module
    if target.kind == LINEAR:
        return _sizes(module), {}
    if target.kind == CONVOLUTION:
        keywords = {"stride": module.stride, "padding": module.padding, "bias": module.bias is not None}
        keywords |= {"dilation": module.dilation} if module.dilation != (1, 1) else {}
        keywords |= {"groups": module.groups} if module.groups != 1 else {}
        return (module.in_channels, module.out_channels, module.kernel_size), keywords
    if target.kind == TABLE:
        return (module.num_embeddings, module.embedding_dim), {"padding_idx": module.padding_idx}
    return (
        module.input_size, module.hidden_size, module.num_layers, module.bias, module.batch_first, module.dropout,
        module.bidirectional, module.proj_size,
    ), {}  # fmt: skip


def _sizes(module: nn.Module) -> tuple[int, int, bool]:
    """Inputs, outputs, and whether a linear layer has a bias."""
    trained = trained_linear(nn.Linear, module)
    return trained.in_features, trained.out_features, trained.bias is not None


def _holding(target: Target, configuration: Configuration, fitted: Fitted) -> nn.Module:
    """The layer with the parameters of a fit."""
    if isinstance(configuration, LowRank):
        return _low_rank_holding(target, configuration, fitted)
    service = SERVICES[target.kind][type(configuration)]
    if isinstance(configuration, Int2) and configuration.rank and target.kind == LINEAR:
        return CorrectedLinear.from_fit(fitted, target.module)  # type: ignore[arg-type]
    made: nn.Module = service.cls.from_fit(fitted, target.module)
    return made


def _nearest(target: Target, configuration: Configuration, seed: int) -> Any:
    """The layer nearest to a trained convolution or table in the Frobenius norm."""
    module: Any = target.module
    service = SERVICES[target.kind][type(configuration)]
    settings = service.settings(configuration, seed)
    if target.kind == TABLE:
        return service.cls.from_embedding(module, **settings)
    return service.cls.from_conv(module, **settings)


def _holds_fit(configuration: Configuration) -> bool:
    """Whether the convolution of a configuration holds the fit of a matrix of patches."""
    return hasattr(SERVICES[CONVOLUTION][type(configuration)].cls, "from_fit")


def _low_rank_parts(target: Target, configuration: LowRank) -> list[Any]:
    """The layers of a low rank with initial values: one, or two in sequence."""
    module: Any = target.module
    where = _where(module)
    if target.kind == TABLE:
        rows, features = module.num_embeddings, module.embedding_dim
        rank = configuration.rank_for(features, rows)
        table, linear = _storage(configuration, target.kind)
        return [table(rows, rank, padding_idx=module.padding_idx, **where), linear(rank, features, False, **where)]
    n, m, bias = _sizes(module)
    rank = configuration.rank_for(n, m)
    if configuration.storage is None:
        return [SERVICES[LINEAR][LowRank].cls(n, m, bias, rank=rank, **where)]
    first, second = _storage(configuration, target.kind)
    return [first(n, rank, False, **where), second(rank, m, bias, **where)]


def _low_rank_holding(target: Target, configuration: LowRank, fitted: Any) -> nn.Module:
    """The layers of a low rank with the values of a fit."""
    parts = _low_rank_parts(target, configuration)
    if len(parts) == 1:
        made: nn.Module = type(parts[0]).from_fit(fitted, target.module)
        return made
    if target.kind == LINEAR:
        values = (fitted.down, fitted.up)
    elif configuration.storage is None:
        parts[0].weight.copy_(_tensor(fitted.left, parts[0].weight))
        parts[1].weight.copy_(_tensor(fitted.right.T, parts[1].weight))
        return nn.Sequential(*parts)
    else:
        values = (fitted.left, dataclasses.replace(fitted.right, weight=fitted.right.weight.T))
    where = _where(target.module)
    layers = (type(part).from_fit(each, _plain(part, where)) for part, each in zip(parts, values, strict=True))
    return nn.Sequential(*layers)


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


def _tied(target: Target) -> Any:
    module: Any = target.module
    if target.kind == BOTTLENECK:
        return TiedBottleneck.from_bottlenecks(module)
    pair = target.pair
    assert pair is not None
    first, second = (module.get_submodule(path) for path in (pair.first, pair.second))
    return TiedFFN.from_linears(first, second, pair.activation, dropout=pair.dropout)


def _for_kind(configuration: Configuration, target: Target) -> Any:
    """The configuration without what only linear layers have: the rotation of the inputs, and the correction."""
    given: Any = configuration
    if target.kind == LINEAR or not hasattr(given, "rotate"):
        return given
    without = {"rotate": False, **({"rank": 0} if isinstance(given, Int2) else {})}
    return dataclasses.replace(given, **without)


def _check_padding(target: Target) -> None:
    mode = getattr(target.module, "padding_mode", "zeros")
    if mode != "zeros":
        raise UsageError(f"it pads with padding_mode={mode!r}, and the layers of edgefc pad with zeros")


def _where(module: nn.Module) -> dict[str, Any]:
    """The device and the dtype of a module, as keyword arguments."""
    tensor = next(iter(effective_tensors(module).values()), None)
    tensor = next(module.parameters()) if tensor is None else tensor
    return {"device": tensor.device, "dtype": tensor.dtype}


def _like(layer: nn.Module, module: nn.Module) -> nn.Module:
    """Copies mode and requires_grad: from bias to bias, from the weights to all the rest."""
    given = dict(module.named_parameters())
    weights = any(each.requires_grad for name, each in given.items() if "bias" not in name)
    for name, parameter in layer.named_parameters():
        own = given.get("bias") if name.rpartition(".")[2] == "bias" else None
        if parameter.is_floating_point():
            parameter.requires_grad_(weights if own is None else own.requires_grad)
    return layer.train(module.training)


def _numpy(tensor: Tensor) -> Array:
    array: Array = tensor.detach().double().cpu().numpy()
    return array


def _tensor(array: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float64)).to(like.device, like.dtype)
