"""Finds the layers: every module in the folder of a family that has ENTRIES.

Other packages register such a module with an entry point of the group edgefc.layers (edgefc/plugins.py).
"""

import importlib
import pkgutil
from types import ModuleType

from torch import nn

import edgefc.layers as folder
from edgefc.errors import UsageError
from edgefc.layers.common.entry import Entry
from edgefc.plugins import plugins


def modules() -> list[ModuleType]:
    """The modules of edgefc/layers/ that define a layer."""
    names = [
        f"{family.name}.{file.name}"
        for family in pkgutil.iter_modules(folder.__path__, folder.__name__ + ".")
        if family.ispkg
        for file in pkgutil.iter_modules(importlib.import_module(family.name).__path__)
    ]
    return [module for module in map(importlib.import_module, names) if hasattr(module, "ENTRIES")]


def public() -> dict[str, dict[str, str]]:
    """For each layer of edgefc, by the name of its class: its module, and the kind of torch layer that it replaces.

    Raises:
        UsageError: two modules define a layer of the same name.
    """
    found: dict[str, dict[str, str]] = {}
    for module in modules():
        replaces = module.ENTRIES[0].replaces
        for name, value in vars(module).items():
            if _is_layer(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                if name in found:
                    other = found[name]["module"]
                    raise UsageError(f"both {module.__name__} and {other} define the layer {name}. Rename one of them.")
                found[name] = {"module": module.__name__, "replaces": replaces}
    return dict(sorted(found.items()))


def entries() -> tuple[Entry, ...]:
    """The entries of all layers, including those of other packages, sorted by paper and name.

    Raises:
        UsageError: two entries have the same name, or a registered module cannot be imported or has no ENTRIES.
    """
    named = [(module.__name__, module) for module in modules()]
    named += [(each.where, each.load(ModuleType)) for each in plugins("edgefc.layers")]
    found: dict[str, Entry] = {}
    for place, module in named:
        for entry in _entries(place, module):
            if entry.name in found:
                raise UsageError(
                    f"{place} has an entry {entry.name!r}, which another layer also has. Rename one of them."
                )
            found[entry.name] = entry
    return tuple(sorted(found.values(), key=lambda entry: (entry.paper.lower(), entry.name.lower())))


def _entries(place: str, module: ModuleType) -> tuple[Entry, ...]:
    entries = getattr(module, "ENTRIES", None)
    if not (isinstance(entries, tuple) and all(isinstance(entry, Entry) for entry in entries)):
        raise UsageError(f"{place} has no ENTRIES, a tuple of edgefc.layers.common.entry.Entry. Add one.")
    return entries


def _is_layer(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)
