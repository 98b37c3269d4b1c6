"""Example inputs, on which export() and verify() run a model."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from edgefc.errors import UsageError

Args = Tensor | Sequence[Any] | Mapping[str, Any]
Inputs = tuple[tuple[Any, ...], dict[str, Any]]


def example_inputs(args: Args) -> Inputs:
    """Returns positional and keyword arguments for a tensor, a sequence or a mapping. Copies the tensors.

    Raises:
        UsageError: any other type.
    """
    copied: Inputs = pytree.tree_map(
        lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, arguments(args)
    )
    return copied


def arguments(args: Args) -> Inputs:
    """Returns positional and keyword arguments for a tensor, a sequence or a mapping.

    Raises:
        UsageError: any other type.
    """
    if isinstance(args, Tensor):
        result: Inputs = ((args,), {})
    elif isinstance(args, Mapping):
        result = ((), dict(args))
    elif isinstance(args, Sequence) and not isinstance(args, (str, bytes)):
        result = (tuple(args), {})
    else:
        raise UsageError(
            f"args must be a tensor, a tuple of positional arguments or a dict of keyword arguments, got "
            f"{type(args).__name__}."
        )
    return result


def tensors(inputs: Any) -> list[Tensor]:
    """Returns every tensor in nested tuples, lists and dicts, in order."""
    return [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
