"""Exports decoders of the transformers package without their key-value cache, or with the cache as tensors.

With a cache, the file has the inputs past_key_values.0.key, past_key_values.0.value, ... of shape (batch, heads, past,
head size). It has the outputs present.0.key, ... of shape (batch, heads, past + tokens, head size), which are the past
of the next run. The first run uses a past of length 0.
"""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgefc.errors import ExportError, UsageError
from edgefc.export.tracing.adapter import Adapter, Inputs, cache_layers
from edgefc.export.tracing.axes import BATCH, TOKENS, Axis, Plan

PAST, ALL_TOKENS = "past", f"past + {TOKENS}"
_PARAMETERS = ("past_key_values", "cache")  # in transformers up to 5.20 or so, and after
_MASK = "attention_mask"


class CachedAdapter(Adapter):
    """An Adapter whose last inputs are the keys and values of each layer. It also returns the extended ones."""

    def __init__(self, model: nn.Module, inputs: Inputs, past: Sequence[Tensor], parameter: str) -> None:
        plain = len(inputs.names)
        names = [f"past_key_values.{index // 2}.{('key', 'value')[index % 2]}" for index in range(len(past))]
        every = Inputs(
            names=(*inputs.names, *names),
            tensors=(*_with_longer_mask(inputs, past), *past),
            arguments=inputs.arguments,
            constants=inputs.constants,
            rebuild=lambda tensors: inputs.rebuild(tensors[:plain]),
        )
        super().__init__(model, every, {"use_cache": True})
        self._plain, self._parameter = plain, parameter

    def call(self, *tensors: Tensor) -> Any:
        args, kwargs = self.inputs.rebuild(tensors)
        cache = _filled(_new_cache(self.model), tensors[self._plain :])
        return self.model(*args, **kwargs, **self.extra, **{self._parameter: cache})

    def plan(self) -> Plan:
        """Returns the plan in which batch, new tokens and past are dynamic."""
        plan: list[Mapping[int, Axis]] = []
        for name, tensor in zip(self.inputs.names[: self._plain], self.inputs.tensors, strict=False):
            axes = {0: Axis(BATCH, requested=True)} if tensor.ndim else {}
            if tensor.ndim > 1:
                axes[1] = Axis(ALL_TOKENS if name == _MASK else TOKENS, requested=True)
            plan.append(axes)
        past = {0: Axis(BATCH, requested=True), 2: Axis(PAST, requested=True, low=0)}
        return (*plan, *[past] * (len(self.inputs.names) - self._plain))


def with_cache(model: nn.Module, inputs: Inputs) -> CachedAdapter:
    """Returns the model with its cache as inputs and outputs. The example past is the cache after one run.

    Raises:
        UsageError: the model has no cache, or a cache whose layers are not DynamicLayer.
    """
    name = type(model).__name__
    parameter = next((each for each in _PARAMETERS if each in inspect.signature(model.forward).parameters), None)
    if parameter is None or not takes(model, "use_cache"):
        raise UsageError(
            f"{name} has no cache to export: its forward does not accept past_key_values and use_cache. "
            "Pass a decoder of the transformers package, or omit cache=True (--cache)."
        )
    if parameter in dict(inputs.arguments):
        raise UsageError(
            f"args of {name} contain {parameter}, which cache=True (--cache) creates itself. Omit {parameter}."
        )
    args, kwargs = inputs.rebuild(inputs.tensors)
    result = model(*args, **{**kwargs, "use_cache": True})
    if (why := why_no_tensors(result)) is not None:
        raise UsageError(f"{name} cannot be exported with its cache: {why}. Export it without cache=True (--cache).")
    layers = cache_layers(_cache(result)) or []
    past = [tensor.detach().clone() for layer in layers for tensor in (layer.keys, layer.values)]
    return CachedAdapter(model, inputs, past, parameter)


def takes(model: nn.Module, keyword: str) -> bool:
    """Whether forward has a parameter of this name."""
    return keyword in inspect.signature(model.forward).parameters


def returns_cache(result: Any) -> bool:
    """Whether the result of a model contains a cache."""
    return _cache(result) is not None


def why_no_tensors(result: Any) -> str | None:
    """Returns why the cache in the result of a model cannot become inputs and outputs, or None if it can."""
    cache = _cache(result)
    layers = cache_layers(cache)
    if not layers:
        if cache is None:
            return "the model returned no cache"
        return f"its {type(cache).__name__} cannot be converted to tensors"
    kinds = sorted({type(layer).__name__ for layer in layers})
    if kinds == ["DynamicLayer"]:
        return None
    return f"its layers are {', '.join(kinds)}, and only DynamicLayer can be converted to tensors"


def _cache(result: Any) -> Any:
    return next((leaf for leaf in _leaves(result) if cache_layers(leaf) is not None), None)


def _leaves(result: Any) -> list[Any]:
    if isinstance(result, Mapping):
        result = list(result.values())
    return pytree.tree_leaves(result, is_leaf=lambda value: cache_layers(value) is not None)


def _new_cache(model: nn.Module) -> Any:
    """Returns an empty cache for the configuration of the model."""
    cache_utils = importlib.import_module("transformers.cache_utils")  # installed, since the model comes from it
    return cache_utils.DynamicCache(config=model.config)


def _filled(cache: Any, past: Sequence[Tensor]) -> Any:
    if len(cache.layers) * 2 != len(past):
        raise ExportError(
            f"the cache has {len(cache.layers)} layers in the model's configuration, but {len(past) // 2} after a run. "
            "Export the model without cache=True (--cache)."
        )
    for layer, keys, values in zip(cache.layers, past[::2], past[1::2], strict=True):
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = (
            keys,
            values,
        )  # assigned, not appended: appending would trace a torch.cat with an empty tensor
    return cache


def _with_longer_mask(inputs: Inputs, past: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Returns the examples with the attention mask extended by ones for the past."""
    return tuple(
        torch.cat([tensor.new_ones(len(tensor), past[0].shape[2]), tensor], 1)
        if name == _MASK and tensor.ndim == 2
        else tensor
        for name, tensor in zip(inputs.names, inputs.tensors, strict=True)
    )
