"""The user's folders for settings and caches, according to the XDG base directory specification."""

import os
from pathlib import Path

from edgefc.errors import UsageError


def config() -> Path:
    """$XDG_CONFIG_HOME/edgefc, or ~/.config/edgefc. The folder need not exist.

    Raises:
        UsageError: neither variable is set, and the user has no passwd entry.
    """
    return _folder("XDG_CONFIG_HOME", ".config")


def cache() -> Path:
    """$XDG_CACHE_HOME/edgefc, or ~/.cache/edgefc. The folder need not exist.

    Raises:
        UsageError: neither variable is set, and the user has no passwd entry.
    """
    return _folder("XDG_CACHE_HOME", ".cache")


def _folder(variable: str, below_home: str) -> Path:
    given = os.environ.get(variable, "")
    if os.path.isabs(given):  # the specification says to ignore relative paths
        return Path(given) / "edgefc"
    home = os.environ.get("HOME") or _passwd_home()
    if not os.path.isabs(home):
        raise UsageError(
            f"the user {os.getuid()} has no home folder: HOME is {home!r}, and {variable} is not set. "
            f"Set {variable} to the absolute path of a folder."
        )
    return Path(home) / below_home / "edgefc"


def _passwd_home() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_dir
    except (ImportError, KeyError):
        return ""
