"""Checks the callables that create the projections of an attention layer, and the sizes of their outputs."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from edgefc.errors import ShapeError, UsageError, first_line


def check_makes(projection: Callable[..., nn.Module], n: int, m: int, *, bias: bool, seed: int) -> None:
    """Checks that `projection` can be called as StructuredAttention does.

    Raises:
        UsageError: not callable, or not with these arguments, such as a class without a seed.
    """
    if not callable(projection):
        raise UsageError(
            f"cannot create projections with {projection!r}. Pass a class or function that takes (in_features, "
            "out_features, bias, seed), such as CirculantLinear."
        )
    example = "(in_features, out_features, bias, seed), such as lambda n, m, bias, seed: {}(n, m, bias)"
    _check_takes(projection, example, n, m, bias=bias, seed=seed)


def check_makes_from(from_linear: Callable[..., nn.Module], linear: nn.Linear, *, seed: int) -> None:
    """Checks that `from_linear` can be called as StructuredAttention.from_attention() does.

    Raises:
        UsageError: not callable, or not with these arguments.
    """
    if not callable(from_linear):
        raise UsageError(
            f"cannot create projections with {from_linear!r}. Pass a function that takes (linear, seed), such as "
            "CirculantLinear.from_linear."
        )
    _check_takes(from_linear, "(linear, seed), such as lambda linear, seed: {}(linear)", linear, seed=seed)


def check_outputs(layer: nn.Module, name: str, outputs: int, expected: int) -> None:
    """Checks that the projection `name` of `layer` has `expected` outputs.

    Raises:
        ShapeError: another number of outputs.
    """
    if outputs != expected:
        kind = type(getattr(layer, name)).__name__
        raise ShapeError(
            f"{type(layer).__name__} expects {expected} outputs from {name}, got {outputs} from a {kind}. "
            "Create projections with the out_features that they are called with."
        )


def _check_takes(projection: Callable[..., Any], example: str, *arguments: object, **keywords: object) -> None:
    try:
        signature = inspect.signature(projection)
    except (TypeError, ValueError):  # the signature is not available, but the call may work
        return
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        called = getattr(projection, "__qualname__", repr(projection)).rpartition("<locals>.")[2]
        raise UsageError(
            f"cannot create projections with {called}: {first_line(error)}. Pass a function that takes "
            f"{example.format(called)}."
        ) from None
