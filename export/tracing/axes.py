"""Plans which axes of the inputs are dynamic, and their names.

A plan has one mapping per input: axis -> Axis. All other axes are fixed. Axes with the same name have the same size. A
name can be a sum of others, such as "past + tokens".
"""

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from edgefc.errors import UsageError

BATCH, TOKENS = "batch", "tokens"

KNOWN_AXES: Mapping[str, Mapping[int, str]] = {
    "input_ids": {1: TOKENS},
    "attention_mask": {1: TOKENS},
    "token_type_ids": {1: TOKENS},
    "position_ids": {1: TOKENS},
    "inputs_embeds": {1: TOKENS},
    "special_tokens_mask": {1: TOKENS},
    "labels": {1: TOKENS},
    "decoder_input_ids": {1: "decoder_tokens"},
    "decoder_inputs_embeds": {1: "decoder_tokens"},
    "decoder_attention_mask": {1: "decoder_tokens"},
    "encoder_hidden_states": {1: "encoder_tokens"},
    "encoder_attention_mask": {1: "encoder_tokens"},
    "input_values": {1: "samples"},
}
"""Axes that are dynamic by default, in addition to the batch, for these input names of the transformers package.

The sizes of images (pixel_values) and spectrograms (input_features) are fixed: most models support only one size.
"""

_RANKS = {"inputs_embeds": 3, "decoder_inputs_embeds": 3, "encoder_hidden_states": 3}
_OPERATIONS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
}  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """One dynamic axis.

    name       the name of its size, such as "batch" or "past + tokens", or None
    requested  whether the caller requested it. An axis that is dynamic only by default is fixed if the model needs it
    low, high  the smallest and largest size that the caller requires
    """

    name: str | None
    requested: bool = False
    low: int | None = None
    high: int | None = None


Plan = tuple[Mapping[int, Axis], ...]
Sizes = Mapping[str, int]


def default_plan(names: Sequence[str], tensors: Sequence[Tensor]) -> Plan:
    """Returns the default plan: the first axis of every input, and the axes of KNOWN_AXES.

    Inputs of one kind, such as input_ids and attention_mask, share the names of their axes, unless the sizes of the
    examples differ. If several inputs contain tokens (query_input_ids, passage_input_ids), each has its own names, such
    as query_tokens.
    """
    streams = _streams(names)
    plan: list[dict[int, Axis]] = []
    first: dict[str, int] = {}
    for name, tensor in zip(names, tensors, strict=True):
        axes = {0: Axis(BATCH, requested=True)} if tensor.ndim else {}
        known = _known(name)
        if known is not None and tensor.ndim == _RANKS.get(known, 2):
            prefix = name.removesuffix(known)
            for axis, size in KNOWN_AXES[known].items():
                label = f"{prefix}{size}" if prefix in streams and len(streams) > 1 else size
                if first.setdefault(label, tensor.shape[axis]) != tensor.shape[axis]:
                    label = f"{name}_axis{axis}"
                axes[axis] = Axis(label)
        plan.append(axes)
    return tuple(plan)


def _known(name: str) -> str | None:
    """Returns the longest name in KNOWN_AXES that `name` ends with: "input_ids" for "query_input_ids"."""
    return max((key for key in KNOWN_AXES if name == key or name.endswith(f"_{key}")), key=len, default=None)


def _streams(names: Sequence[str]) -> set[str]:
    """Returns the prefixes of the token inputs, such as "query_" and "passage_" of a model with two encoders."""
    return {name.removesuffix(known) for name in names if (known := _known(name)) in ("input_ids", "inputs_embeds")}


def merged(plan: Plan, other: Plan) -> Plan:
    """Merges two plans. The axes of `other` override those of `plan`."""
    return tuple({**axes, **more} for axes, more in zip(plan, other, strict=True))


def without(plan: Plan, names: Iterable[str | None]) -> Plan:
    """Returns the plan with the axes of these names fixed."""
    fixed = set(names)
    return tuple({axis: each for axis, each in axes.items() if each.name not in fixed} for axes in plan)


def torch_shapes(plan: Plan) -> Any:
    """Converts the plan to dynamic_shapes of torch.export, for a forward(*tensors).

    Uses only Dim.DYNAMIC: named Dims do not support some bounds and sums of real models, and torch does not allow both
    kinds together.
    """
    return (tuple(dict.fromkeys(axes, Dim.DYNAMIC) or None for axes in plan),)


def sizes_of(plan: Plan, names: Sequence[str], tensors: Sequence[Tensor]) -> dict[str, int]:
    """Returns the size of each simple name in the plan, from the examples. Solves for t in an axis named "2*t".

    Raises:
        UsageError: an axis that an input does not have, or one name for two sizes.
    """
    sizes: dict[str, int] = {}
    first: dict[str, str] = {}
    for label, tensor, axes in zip(names, tensors, plan, strict=True):
        for axis, each in axes.items():
            if not 0 <= axis < tensor.ndim:
                raise UsageError(
                    f"input {label!r} has no axis {axis}: its shape is {tuple(tensor.shape)}. "
                    f"Choose an axis from 0 to {tensor.ndim - 1}."
                )
            if axis == 0 and not tensor.shape[0]:
                raise UsageError(f"example input {label!r} has batch size 0. Pass examples with at least one row.")
            if each.name is None or not each.name.isidentifier():
                continue
            size, place = tensor.shape[axis], f"axis {axis} of {label}"
            if sizes.setdefault(each.name, size) != size:
                raise UsageError(_two_sizes(each.name, first[each.name], sizes[each.name], place, size))
            first.setdefault(each.name, place)
    for tensor, axes in zip(tensors, plan, strict=True):
        for axis, each in axes.items():
            sizes |= _solved(each.name or "", tensor.shape[axis], sizes)
    return sizes


def _solved(expression: str, value: int, sizes: Sizes) -> dict[str, int]:
    """Solves a linear `expression` with one unknown name: {"t": 4} for "2*t" and 8. Returns {} if it cannot."""
    unknown = set(re.findall(r"[A-Za-z_]\w*", expression)) - set(sizes)
    if len(unknown) != 1:
        return {}
    name = unknown.pop()
    start, following = (value_of(expression, {**sizes, name: size}) for size in (0, 1))
    if start is None or following is None or start == following:
        return {}
    size = (value - start) // (following - start)
    return {name: size} if value_of(expression, {**sizes, name: size}) == value else {}


def _two_sizes(name: str, place: str, size: int, other: str, other_size: int) -> str:
    text = f"{place} and {other} are both named {name!r}, but their sizes in the examples are {size} and {other_size}."
    if name == BATCH:
        return (
            f"{text} Pass examples with the same batch size, or fix the batch with dynamic_batch=False (--fixed-batch) "
            "and name the dynamic axes in dynamic_shapes (--dynamic)."
        )
    return f"{text} Pass examples of the same size, or use two names."


def resized(plan: Plan, tensors: Sequence[Tensor], sizes: Sizes) -> tuple[Tensor, ...]:
    """Resizes the dynamic axes of the tensors to these sizes. Entries are repeated from the first if necessary.

    Does not change axes whose size cannot be computed from `sizes`.
    """
    result = []
    for tensor, axes in zip(tensors, plan, strict=True):
        for axis, each in axes.items():
            size = None if each.name is None else value_of(each.name, sizes)
            if size is not None and size != tensor.shape[axis]:
                tensor = _resize(tensor, axis, size)
        result.append(tensor)
    return tuple(result)


def other_sizes(plan: Plan, sizes: Sizes) -> list[dict[str, int]]:
    """Returns two further sets of sizes for tests: the smallest ones; and 3 for first axes, size + 3 for the others."""
    bounds = {name: Axis(name) for name in sizes}  # also for names that occur only in expressions
    bounds |= {each.name: each for open_axes in plan for each in open_axes.values() if each.name}
    small = {name: 1 if bounds[name].low is None else bounds[name].low or 0 for name in sizes}
    rows = {open_axes[0].name for open_axes in plan if 0 in open_axes}
    grown = {name: 3 if name in rows else size + 3 for name, size in sizes.items()}
    large = {name: min(size, bounds[name].high or size) for name, size in grown.items()}
    return [small, large]


def at_least_two(plan: Plan, tensors: Sequence[Tensor], sizes: Sizes) -> tuple[Tensor, ...]:
    """Resizes dynamic axes of size 0 or 1 to 2, because torch.export treats these sizes as constants."""
    grown = resized(plan, tensors, {name: max(size, 2) for name, size in sizes.items()})
    result = []
    for tensor, axes in zip(grown, plan, strict=True):
        for axis, each in axes.items():
            if each.name is None and tensor.shape[axis] < 2:
                tensor = _resize(tensor, axis, 2)
        result.append(tensor)
    return tuple(result)


def value_of(expression: str, sizes: Sizes) -> int | None:
    """Evaluates a size such as "batch" or "past + tokens". Returns None if a name has no size."""
    if expression in sizes:  # also if the name is a Python keyword
        return sizes[expression]
    try:
        return _value(ast.parse(expression, mode="eval").body, sizes)
    except (SyntaxError, ValueError, KeyError, ZeroDivisionError, RecursionError):
        return None


def _value(node: ast.expr, sizes: Sizes) -> int:
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(node.left, sizes), _value(node.right, sizes))
    raise ValueError(ast.dump(node))


def _resize(tensor: Tensor, axis: int, size: int) -> Tensor:
    old = tensor.shape[axis]
    if not old:
        return tensor.new_zeros(*tensor.shape[:axis], size, *tensor.shape[axis + 1 :])
    return tensor.index_select(axis, torch.arange(size, device=tensor.device) % old)


def named(plan: Plan, names: Sequence[str]) -> Plan:
    """Returns the plan with a name for every axis. The default name is x_axis1 for axis 1 of x."""
    return tuple(
        {axis: each if each.name else replace(each, name=f"{label}_axis{axis}") for axis, each in axes.items()}
        for label, axes in zip(names, plan, strict=True)
    )


def fixed_axes(names: Sequence[str], shapes: Sequence[Sequence[int | str]]) -> tuple[str, ...]:
    """Returns a note for every fixed axis of the inputs."""
    return tuple(
        f"axis {axis} of {name} is fixed at {size}"
        for name, shape in zip(names, shapes, strict=True)
        for axis, size in enumerate(shape)
        if isinstance(size, int)
    )
