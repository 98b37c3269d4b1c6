"""Makes the layer of a configuration for a trained one: with initial values, or fitted to what the trained layer did.

The fits are those of edgefc.fitting. A convolution is fitted as a linear layer of its patches.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.fitting.error import corrected_bias, cost_matrix, output_error
from edgefc.fitting.fitted import Fitted
from edgefc.fitting.moments import Moments, TokenCounts
from edgefc.fitting.sequential import PairedMoments
from edgefc.fitting.sequential import target as nearest_target
from edgefc.fitting.solve import fit, fit_table, fitted_tables
from edgefc.layers.common.effective import effective_tensors
from edgefc.layers.common.trained import trained_linear
from edgefc.layers.quantized.corrected import CorrectedLinear
from edgefc.layers.quantized.half import HalfLinear
from edgefc.layers.tied.bottleneck import TiedBottleneck
from edgefc.layers.tied.ffn import TiedFFN
from edgefc.plan.configurations import Configuration, Int2, LowRank, Tied
from edgefc.replacing import low_rank
from edgefc.replacing.finding import BOTTLENECK, CONVOLUTION, LINEAR, PAIR, RECURRENT, TABLE, Target
from edgefc.replacing.likeness import sizes_of, tensor_like, where_of
from edgefc.replacing.serving import SERVICES
from edgefc.replacing.statistics import Statistics

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
def make_new(target: Target, given: Configuration, seed: int | None) -> nn.Module:
    """Returns the layer with initial values. Its sizes, dtype, device, mode and requires_grad are those of the target.

    seed=None draws a seed from torch's generator if the layer has one.

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
def make_fitted(target: Target, given: Configuration, statistics: Statistics, seed: int, *, plain: bool = True) -> Made:
    """Returns the layer fitted to the target, as in make_new(). `plain`: whether to measure error_plain, a second fit.

    Raises:
        UsageError: the layer does not support the target, or a weight is not finite.
    """
    if target.kind in (PAIR, BOTTLENECK):
        return Made(_tied(target))
    configuration = _for_kind(given, target)
    _check_padding(target)
    if target.kind == TABLE:
        return _fitted_table(target, configuration, statistics, seed, plain)
    if target.kind == RECURRENT:
        service = SERVICES[RECURRENT][type(configuration)]
        return Made(_like(service.cls.from_lstm(target.module, **service.settings(configuration, seed)), target.module))
    return _fitted_matrix(target, configuration, statistics, seed, plain)


@torch.no_grad()
def make_refitted(target: Target, configuration: Configuration, paired: PairedMoments, seed: int) -> Made:
    """Returns the layer of a linear target that is nearest to its outputs in the original model.

    `paired` has the inputs of the layer there and in the replaced model. The error is that of the fit of W*.

    Raises:
        UsageError: a weight is not finite.
    """
    weight, bias = nearest_target(*weight_of(target), paired)
    fitted = fit(configuration, weight, bias, paired.moments, seed)
    error = output_error(weight, fitted.dense(), paired.moments.covariance)
    return Made(_like(_holding(target, configuration, fitted), target.module), error)


def _fitted_matrix(
    target: Target, configuration: Configuration, statistics: Statistics, seed: int, compared: bool
) -> Made:
    weight, bias = weight_of(target)
    moments = statistics if isinstance(statistics, Moments) and statistics.count else None
    c = cost_matrix(bias, moments)
    if target.kind == CONVOLUTION and not _holds_fit(configuration):
        layer = _nearest(target, configuration, seed)
        matrix = _numpy(layer.dense()).reshape(weight.shape)
        if moments is not None and getattr(layer, "bias", None) is not None:
            layer.bias.copy_(tensor_like(corrected_bias(weight, matrix, bias, moments), layer.bias))
        return Made(_like(layer, target.module), output_error(weight, matrix, c))
    fitted = fit(configuration, weight, bias, moments, seed)
    error = output_error(weight, fitted.dense(), c)
    plain = fit(configuration, weight, bias, None, seed) if compared and moments is not None else None
    return Made(
        _like(_holding(target, configuration, fitted), target.module),
        error,
        None if plain is None else output_error(weight, plain.dense(), c),
    )


def _fitted_table(
    target: Target, configuration: Configuration, statistics: Statistics, seed: int, compared: bool
) -> Made:
    counts = statistics.counts if isinstance(statistics, TokenCounts) else None
    table, _ = weight_of(target)
    if type(configuration).__name__ not in fitted_tables():
        layer = _nearest(target, configuration, seed)
        return Made(_like(layer, target.module), table_error(table, _numpy(layer.dense()), counts))
    fitted = fit_table(configuration, table, counts, seed)
    layer = _like(_holding(target, configuration, fitted), target.module)
    plain = fit_table(configuration, table, None, seed) if compared and counts is not None else None
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


def _parts(target: Target, configuration: Configuration, seed: int | None) -> list[Any]:
    """The new layers in the place of one, in order: two for a low rank with its own storage, else one."""
    kind, module = target.kind, target.module
    if isinstance(configuration, LowRank):
        return low_rank.parts_of(target, configuration)
    service = SERVICES[kind][type(configuration)]
    settings = {**service.settings(configuration, seed), **where_of(module)}
    if kind == LINEAR and isinstance(configuration, Int2) and configuration.rank:
        n, m, _ = sizes_of(module)
        rank = min(configuration.rank, n, m)
        down, up = (HalfLinear(*sizes, False, **where_of(module)) for sizes in ((n, rank), (rank, m)))
        nn.init.zeros_(up.half_weight)  # the correction starts at zero, so that it adds no variance
        return [CorrectedLinear(service.cls(*sizes_of(module), **settings), down, up)]
    arguments, keywords = _arguments(target)
    return [service.cls(*arguments, **keywords, **settings)]


def _arguments(target: Target) -> tuple[Sequence[Any], dict[str, Any]]:
    """The arguments of the torch layer, for the constructor of a layer that replaces it."""
    module: Any = target.module
    if target.kind == LINEAR:
        return sizes_of(module), {}
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


def _holding(target: Target, configuration: Configuration, fitted: Fitted) -> nn.Module:
    """The layer with the parameters of a fit."""
    if isinstance(configuration, LowRank):
        return low_rank.holding(target, configuration, fitted)
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
