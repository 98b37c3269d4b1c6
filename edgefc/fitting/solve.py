"""The fit of any configuration of a plan."""

import importlib
import pkgutil
from functools import cache
from typing import Any

from numpy.typing import ArrayLike

from edgefc import fitting
from edgefc.errors import UsageError
from edgefc.fitting.error import checked
from edgefc.fitting.fitted import Fitted
from edgefc.fitting.moments import Moments
from edgefc.fitting.registry import LAYERS, TABLES


def fit(
    configuration: Any, weight: ArrayLike, bias: ArrayLike | None = None, moments: Moments | None = None, seed: int = 0
) -> Fitted:
    """Returns the layer of a configuration that computes most nearly what a linear layer did.

    Args:
        configuration   one of edgefc.plan
        weight, bias    (m, n) and (m,) or None
        moments         of the layer's inputs; None fits the weights alone
        seed            of rotations and seeded matrices

    Raises:
        ShapeError, UsageError: the arrays do not go together, or no fit serves the configuration.
    """
    _load()
    kind = type(configuration).__name__
    if kind not in LAYERS:
        raise UsageError(f"no fit serves {kind} for a linear layer. Choose one of: {', '.join(sorted(LAYERS))}.")
    w, b = checked(weight, bias, moments)
    return LAYERS[kind](configuration, w, b, moments, seed)


def fit_table(configuration: Any, table: ArrayLike, counts: ArrayLike | None = None, seed: int = 0) -> Fitted:
    """Returns the embedding table of a configuration that holds most nearly what a table held.

    Args:
        configuration   one of edgefc.plan
        table           (V, d)
        counts          (V,), how often each row was looked up; None weights all rows alike
        seed            of seeded matrices

    Raises:
        ShapeError, UsageError: the arrays do not go together, or no fit serves the configuration.
    """
    _load()
    kind = type(configuration).__name__
    if kind not in TABLES:
        raise UsageError(f"no fit serves {kind} for an embedding. Choose one of: {', '.join(sorted(TABLES))}.")
    from edgefc.fitting.tables import checked_table

    rows, numbers = checked_table(table, counts)
    return TABLES[kind](configuration, rows, numbers, seed)


def fitted_tables() -> frozenset[str]:
    """Returns the names of the configurations that fit_table() supports."""
    _load()
    return frozenset(TABLES)


def every_kind() -> list[type[Fitted]]:
    """Returns the classes of all fits."""
    _load()
    found, pending = list[type[Fitted]](), Fitted.__subclasses__()
    while pending:
        found.append(pending.pop())
        pending += found[-1].__subclasses__()
    return found


@cache
def _load() -> None:
    """Imports every module of this package, which registers its fits."""
    for module in pkgutil.iter_modules(fitting.__path__):
        importlib.import_module(f"{fitting.__name__}.{module.name}")
