"""Finds the transports: the files of this folder, and those that other packages register (edgefc/plugins.py)."""

import functools
import importlib
import pkgutil
from collections.abc import Iterator

import edgefc.devices.transports as folder
from edgefc.devices.transports.base import Transport
from edgefc.errors import UsageError
from edgefc.plugins import plugins

_GROUP = "edgefc.transports"


@functools.cache
def transports() -> dict[str, type[Transport]]:
    """The transports that take an address, by kind, sorted.

    Raises:
        UsageError: two transports have the same kind, or a registered one cannot be imported.
    """
    known: dict[str, tuple[str, type[Transport]]] = {}
    registered = [(each.where, each.load_class(Transport)) for each in plugins(_GROUP)]  # type: ignore[type-abstract]
    for place, transport in (*_own(), *registered):
        kind = getattr(transport, "kind", "")
        if not (isinstance(kind, str) and kind.isidentifier() and transport.address_is):
            raise UsageError(
                f"{place} is a transport without a kind or without address_is. Define both, as described in "
                "edgefc.devices.transports.base.Transport."
            )
        if kind in known:
            raise UsageError(f"{place} and {known[kind][0]} are both transports of the kind {kind!r}. Rename one.")
        known[kind] = place, transport
    return {kind: known[kind][1] for kind in sorted(known)}


def _own() -> Iterator[tuple[str, type[Transport]]]:
    for file in pkgutil.iter_modules(folder.__path__, folder.__name__ + "."):
        module = importlib.import_module(file.name)
        for value in vars(module).values():
            own = isinstance(value, type) and issubclass(value, Transport) and value.__module__ == module.__name__
            if own and value.address_is:
                yield module.__name__, value
