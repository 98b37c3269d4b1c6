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
    found: dict[str, tuple[str, type[Transport]]] = {}
    registered = [(each.where, each.load_class(Transport)) for each in plugins(_GROUP)]  # type: ignore[type-abstract]
    for place, transport in (*_own(), *registered):
        kind = getattr(transport, "kind", "")
        if not (isinstance(kind, str) and kind.isidentifier() and transport.address_is):
            raise UsageError(
                f"{place} is a transport without a kind or without address_is. Give it both, as "
                "edgefc.devices.transports.base.Transport says."
            )
        if kind in found:
            raise UsageError(f"{place} is a transport of the kind {kind!r}, and so is {found[kind][0]}. Rename one.")
        found[kind] = place, transport
    return {kind: found[kind][1] for kind in sorted(found)}


def _own() -> Iterator[tuple[str, type[Transport]]]:
    for file in pkgutil.iter_modules(folder.__path__, folder.__name__ + "."):
        module = importlib.import_module(file.name)
        for value in vars(module).values():
            own = isinstance(value, type) and issubclass(value, Transport) and value.__module__ == module.__name__
            if own and value.address_is:
                yield module.__name__, value
