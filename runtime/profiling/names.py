"""The names of model files in records: the file name, with folders only if two files have the same name."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def distinct(paths: Sequence[str]) -> list[str]:
    """The file name of each path, with as many of its folders as are needed to distinguish it from the other paths.

    dense/model.onnx and circulant/model.onnx keep one folder each. Equal paths get equal names.
    """
    parts = [Path(path).parts for path in paths]
    return [plain(os.path.join(*own[-_needed(own, set(parts) - {own}) :])) for own in parts]


def _needed(own: tuple[str, ...], others: set[tuple[str, ...]]) -> int:
    """How many of the last parts distinguish a path. All of them if a longer path ends in all of them."""
    return next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own))


def numbered(names: Sequence[str]) -> list[str]:
    """The second of equal names becomes "name (2)", and so on."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def plain(name: str) -> str:
    r"""A file name that JSON can store. Bytes that are not UTF-8, which Python reads as surrogates, become \udc80."""
    return name.encode("utf-8", "backslashreplace").decode()
