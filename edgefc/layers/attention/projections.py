"""What can be a projection of an attention layer: how it is made, and how many numbers it gives."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from edgefc.errors import ShapeError, UsageError, first_line


def check_makes(projection: Callable[..., nn.Module], n: int, m: int, *, bias: bool, seed: int) -> None:
    """Refuse what cannot be called as projections are made.

    Raises:
        UsageError: no callable, or one without these arguments: classes without a seed, above all.
    """
    if not callable(projection):
        raise UsageError(
            f"cannot make projections with {projection!r}. Give a class or a function of (in_features, out_features, "
            "bias, seed), such as CirculantLinear."
        )
    example = "(in_features, out_features, bias, seed), such as lambda n, m, bias, seed: {}(n, m, bias)"
    _check_takes(projection, example, n, m, bias=bias, seed=seed)


def check_makes_from(from_linear: Callable[..., nn.Module], linear: nn.Linear, *, seed: int) -> None:
    """Refuse what cannot be called as projections are made from trained ones.

    Raises:
        UsageError: no callable, or one without these arguments.
    """
    if not callable(from_linear):
        raise UsageError(
            f"cannot make projections with {from_linear!r}. Give a function of (linear, seed), such as "
            "CirculantLinear.from_linear."
        )
    _check_takes(from_linear, "(linear, seed), such as lambda linear, seed: {}(linear)", linear, seed=seed)


def check_outputs(layer: nn.Module, name: str, outputs: int, wanted: int) -> None:
    """Refuse a projection `name` of `layer` that gives other than `wanted` numbers.

    Raises:
        ShapeError: with both.
    """
    if outputs != wanted:
        made = type(getattr(layer, name)).__name__
        raise ShapeError(
            f"{type(layer).__name__} needs {wanted} features from {name}, a {made}, which gives {outputs}. "
            "Make projections of as many outputs as they are asked for."
        )


def _check_takes(projection: Callable[..., Any], example: str, *arguments: object, **keywords: object) -> None:
    try:
        signature = inspect.signature(projection)
    except (TypeError, ValueError):  # a callable that hides its arguments may still take these
        return
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        called = getattr(projection, "__qualname__", repr(projection)).rpartition("<locals>.")[2]
        raise UsageError(
            f"cannot make projections with {called}: {first_line(error)}. Give a function of {example.format(called)}."
        ) from None
