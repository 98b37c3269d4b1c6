"""Which fit serves which configuration of a plan. A module that defines a fit declares it here with a decorator."""

from collections.abc import Callable
from typing import Any, TypeVar

from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.moments import Moments

LayerFit = Callable[[Any, Array, Array | None, Moments | None, int], Fitted]
TableFit = Callable[[Any, Array, Array | None, int], Fitted]
F = TypeVar("F", bound=Callable[..., Fitted])

LAYERS: dict[str, LayerFit] = {}
TABLES: dict[str, TableFit] = {}


def serves(*configurations: str) -> Callable[[F], F]:
    """Declares a function (configuration, weight, bias, moments, seed) -> Fitted for classes of configurations."""

    def declare(function: F) -> F:
        LAYERS.update(dict.fromkeys(configurations, function))
        return function

    return declare


def serves_tables(*configurations: str) -> Callable[[F], F]:
    """Declares a function (configuration, table, counts, seed) -> Fitted for classes of configurations."""

    def declare(function: F) -> F:
        TABLES.update(dict.fromkeys(configurations, function))
        return function

    return declare
