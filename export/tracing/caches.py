"""Decoders of the transformers package: exported without their cache of keys and values, or with it as tensors.

With a cache the file takes past_key_values.0.key, past_key_values.0.value, ... of shape (batch, heads, past, head size)
and returns present.0.key, ... of (batch, heads, past + tokens, head size), which are the next run's past. A first run
has a past of length 0.
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
    """An Adapter whose last inputs are the keys and values of each layer, and which returns the longer ones."""

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
        """Batch, new tokens and past are open, whatever their sizes."""
        plan: list[Mapping[int, Axis]] = []
        for name, tensor in zip(self.inputs.names[: self._plain], self.inputs.tensors, strict=False):
            axes = {0: Axis(BATCH, asked=True)} if tensor.ndim else {}
            if tensor.ndim > 1:
                axes[1] = Axis(ALL_TOKENS if name == _MASK else TOKENS, asked=True)
            plan.append(axes)
        past = {0: Axis(BATCH, asked=True), 2: Axis(PAST, asked=True, low=0)}
        return (*plan, *[past] * (len(self.inputs.names) - self._plain))


def with_cache(model: nn.Module, inputs: Inputs) -> CachedAdapter:
    """The model with its cache as inputs and outputs. The example's past is what the model makes of the inputs.

    Raises:
        UsageError: the model has no cache, or one of another kind than keys and values that grow.
    """
    name = type(model).__name__
    parameter = next((each for each in _PARAMETERS if each in inspect.signature(model.forward).parameters), None)
    if parameter is None or not takes(model, "use_cache"):
        raise UsageError(
            f"{name} has no cache to export: its forward takes no past_key_values and use_cache. "
            "Give a decoder of the transformers package, or leave out cache=True (--cache)."
        )
    if parameter in dict(inputs.arguments):
        raise UsageError(f"{name} was given {parameter} beside cache=True (--cache), which makes it. Leave it out.")
    args, kwargs = inputs.rebuild(inputs.tensors)
    result = model(*args, **{**kwargs, "use_cache": True})
    if (why := why_no_tensors(result)) is not None:
        raise UsageError(f"{name} cannot be exported with its cache: {why}. Export it without cache=True (--cache).")
    layers = cache_layers(_cache(result)) or []
    past = [tensor.detach().clone() for layer in layers for tensor in (layer.keys, layer.values)]
    return CachedAdapter(model, inputs, past, parameter)


def takes(model: nn.Module, keyword: str) -> bool:
    """Whether forward has a parameter of that name."""
    return keyword in inspect.signature(model.forward).parameters


def returns_cache(result: Any) -> bool:
    """Whether there is a cache in what a model returned."""
    return _cache(result) is not None


def why_no_tensors(result: Any) -> str | None:
    """Why the cache in what a model returned cannot become inputs and outputs; None where it can."""
    cache = _cache(result)
    layers = cache_layers(cache)
    if not layers:
        return "the model returned no cache" if cache is None else f"its {type(cache).__name__} does not become tensors"
    kinds = sorted({type(layer).__name__ for layer in layers})
    if kinds == ["DynamicLayer"]:
        return None
    return f"its layers are {', '.join(kinds)}, and only DynamicLayer, keys and values that grow, becomes tensors"


def _cache(result: Any) -> Any:
    return next((leaf for leaf in _leaves(result) if cache_layers(leaf) is not None), None)


def _leaves(result: Any) -> list[Any]:
    if isinstance(result, Mapping):
        result = list(result.values())
    return pytree.tree_leaves(result, is_leaf=lambda value: cache_layers(value) is not None)


def _new_cache(model: nn.Module) -> Any:
    """An empty cache for the model's configuration."""
    cache_utils = importlib.import_module("transformers.cache_utils")  # the model's own package: it is there
    return cache_utils.DynamicCache(config=model.config)


def _filled(cache: Any, past: Sequence[Tensor]) -> Any:
    if len(cache.layers) * 2 != len(past):
        raise ExportError(
            f"the cache has {len(cache.layers)} layers by the model's configuration and {len(past) // 2} after a run. "
            "Export the model without cache=True (--cache)."
        )
    for layer, keys, values in zip(cache.layers, past[::2], past[1::2], strict=True):
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values  # set, not appended: torch.cat with what is empty would be traced
    return cache


def _with_longer_mask(inputs: Inputs, past: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The examples, with an attention mask that also covers the past, all of which is attended to."""
    return tuple(
        torch.cat([tensor.new_ones(len(tensor), past[0].shape[2]), tensor], 1)
        if name == _MASK and tensor.ndim == 2
        else tensor
        for name, tensor in zip(inputs.names, inputs.tensors, strict=True)
    )
