"""How far the vectors of a file are from those of the original model, on test sentences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgefc.runtime import Session

NEAREST = 10
"""The nearest sentences that are compared."""

Batch = Mapping[str, np.ndarray[Any, Any]]


class Likeness(NamedTuple):
    """cosine     the mean cosine of the vectors to those of the original
    neighbours    of the NEAREST test sentences of a test sentence, the part that are those of the original; the mean"""

    cosine: float
    neighbours: float


def vectors(file: Path, batches: Sequence[Batch]) -> np.ndarray[Any, Any]:
    """The vectors of all sentences by onnxruntime, (sentences, width)."""
    session = Session(file)
    return np.concatenate([session.run(batch)[session.outputs[0].name] for batch in batches])


def likeness(original: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> Likeness:
    """Compares vectors of length 1, (sentences, width)."""
    cosine = float((original.astype(float) * other).sum(1).mean())
    near, own = (_nearest(each) for each in (original, other))
    return Likeness(cosine, float(np.mean([np.isin(a, b).mean() for a, b in zip(near, own, strict=True)])))


def _nearest(found: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The indices of the nearest other sentences of each sentence."""
    closeness = found @ found.T
    np.fill_diagonal(closeness, -np.inf)
    return np.argsort(-closeness, axis=1, kind="stable")[:, : min(NEAREST, len(found) - 1)]
