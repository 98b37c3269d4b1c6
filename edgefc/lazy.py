"""Public names of a package that are imported on first use, so that importing the package loads nothing heavy.

Standard library only, from Python 3.9: the agent has this module.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from edgefc.errors import needs_extra


def lazy(package: str, names: Mapping[str, str], extra: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions __getattr__ and __dir__ of a package.

    Args:
        names: the module that has each name. No name may be that of a submodule: importing the submodule would hide it.
        extra: the extra of pyproject.toml that the modules need.

    Raises:
        AttributeError: by __getattr__, of a name that is not in `names`.
        MissingExtra: by __getattr__, where a package of the extra is not installed.
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with needs_extra(extra, f"{package}.{name}"):
            return getattr(importlib.import_module(names[name]), name)

    return get, lambda: sorted(names)
