"""Example inputs: what export and verify are given to run a model on."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgefc.errors import UsageError, first_line

Args = Tensor | Sequence[Any] | Mapping[str, Any]
Inputs = tuple[tuple[Any, ...], dict[str, Any]]


def example_inputs(args: Args) -> Inputs:
    """Positional and keyword arguments from a tensor, a sequence, or a mapping.

    Raises:
        UsageError: anything else, or no tensor in it.
    """
    args = pytree.tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, args)
    if isinstance(args, Tensor):
        return (args,), {}
    if isinstance(args, Mapping):
        result: Inputs = ((), dict(args))
    elif isinstance(args, Sequence) and not isinstance(args, (str, bytes)):
        result = (tuple(args), {})
    else:
        raise UsageError(
            f"cannot run a model on args of type {type(args).__name__}. "
            "Give a tensor, a tuple of positional arguments or a dict of keyword arguments."
        )
    if not tensors(result):
        raise UsageError("args hold no tensor. Give the model's example inputs, such as (torch.randn(2, 64),).")
    return result


def tensors(inputs: Any) -> list[Tensor]:
    """Every tensor in nested tuples, lists and dicts, in order."""
    return [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]


def said_by(error: BaseException) -> str:
    """An exception of someone else's code in part of a sentence: its type and its first line."""
    kind, said = type(error).__name__, first_line(error)
    return kind if said == kind else f"{kind}: {said}"


def check_common_batch(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """The size of the first axis, which all inputs share.

    Raises:
        UsageError: they differ, or it is 0.
    """
    sizes = [tensor.shape[0] for tensor in tensors((args, kwargs)) if tensor.ndim]
    if len(set(sizes)) != 1:
        raise UsageError(
            f"inputs have first axes of sizes {sizes}, so none is the batch. "
            "Give examples with one batch size, or fix it with dynamic_batch=False (--fixed-batch)."
        )
    if sizes[0] == 0:
        raise UsageError("example inputs have a batch of 0. Give examples of at least one row.")
    return sizes[0]


def at_least_two_rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs:
    """The same inputs with a batch of one doubled: torch.export takes a size of 1 for a constant."""
    if check_common_batch(args, kwargs) > 1:
        return args, kwargs
    result: Inputs = with_rows(args, kwargs, 2)
    return result


def with_rows(args: tuple[Any, ...], kwargs: dict[str, Any], rows: int) -> Inputs:
    """The same inputs with `rows` rows, repeated from the first as needed."""

    def stretch(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.ndim:
            return value
        return value[torch.arange(rows, device=value.device) % max(len(value), 1)]

    result: Inputs = pytree.tree_map(stretch, (args, kwargs))
    return result
