"""What records call model files: by name, with folders only where two files have one name."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def distinct(paths: Sequence[str]) -> list[str]:
    """The file's name of each path, preceded by as many of its folders as tell it from the other paths.

    dense/model.onnx and circulant/model.onnx keep one folder each. Paths that are equal stay equal.
    """
    parts = [Path(path).parts for path in paths]
    return [plain(os.path.join(*own[-_needed(own, set(parts) - {own}) :])) for own in parts]


def _needed(own: tuple[str, ...], others: set[tuple[str, ...]]) -> int:
    """How many of the last parts no other path has; all of them where a longer path ends in all of them."""
    return next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own))


def numbered(names: Sequence[str]) -> list[str]:
    """The second of equal names becomes "name (2)", and so on."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def plain(name: str) -> str:
    r"""A file's name as JSON can hold it: bytes that are no UTF-8, which Python keeps as surrogates, as \udc80."""
    return name.encode("utf-8", "backslashreplace").decode()
