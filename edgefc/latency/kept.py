"""Times that were measured, in the user's cache folder: one small JSON file for each.

~/.cache/edgefc/times/HASH.json    the hash is that of the facts on which a time depends, which the file has too
"""

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edgefc import folders
from edgefc.errors import UsageError
from edgefc.files import write_text

Facts = Mapping[str, object]


def folder() -> Path:
    return folders.cache() / "times"


def known(facts: Facts) -> float | None:
    """The stored time for these facts, in microseconds, or None if the file is missing or damaged."""
    try:
        content = json.loads(_path(facts).read_bytes())
        value = content["us"]
    except (OSError, ValueError, KeyError, TypeError, UsageError):
        return None  # it is measured again
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) if usable and content.get("facts") == dict(facts) else None


def keep(facts: Facts, microseconds: float) -> None:
    """Stores a time. If the cache cannot be written, the time is measured again next time."""
    with suppress(UsageError):
        write_text(_path(facts), json.dumps({"us": microseconds, "facts": dict(facts)}) + "\n")


def _path(facts: Facts) -> Path:
    key = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()
    return folder() / f"{key[:32]}.json"
