"""Imports the public names of a package on first use, so that importing the package is fast.

Uses the standard library only and runs on Python 3.9, because the agent on a board contains this module.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from edgefc.errors import needs_extra


def lazy(package: str, names: Mapping[str, str], extra: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns the functions __getattr__ and __dir__ for a package.

    Args:
        names: the module of each public name. A name must not be the name of a submodule, because importing the
            submodule would replace it.
        extra: the extra of pyproject.toml that the modules need.

    Raises:
        AttributeError: by __getattr__, if the name is not in `names`.
        MissingExtra: by __getattr__, if a package of the extra is not installed.
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with needs_extra(extra, f"{package}.{name}"):
            return getattr(importlib.import_module(names[name]), name)

    return get, lambda: sorted(names)
