"""Releases of onnxruntime that compute wrong numbers.

1.24 to 1.27 fold constants into memory that they free later, if the folded operator is a Reshape, Unsqueeze or another
one whose output shares the memory of its input (https://github.com/microsoft/onnxruntime/issues/29788). Weights
computed at load are then wrong, or loading fails. Most structured layers have such weights.
"""

from __future__ import annotations

import re

from edgefc.errors import UsageError

WRONG_FROM, RIGHT_FROM = (1, 24), (1, 28)


def release(version: str) -> tuple[int, ...]:
    """The major and minor number of a version: (1, 31) for "1.31.1"."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def is_wrong(version: str) -> bool:
    """Whether onnxruntime in this version computes wrong numbers."""
    return WRONG_FROM <= release(version) < RIGHT_FROM


def check_release(installed: str) -> None:
    """
    Raises:
        UsageError: the installed onnxruntime computes wrong numbers.
    """
    if is_wrong(installed):
        raise UsageError(
            f"onnxruntime {installed} is installed, and 1.24 to 1.27 compute wrong weights when they load a file "
            "(onnxruntime's issue 29788). Install 1.28 or later, or 1.23."
        )
