"""Layers and inputs for the tests of fits, with shapes that are awkward."""

import numpy as np

from edgefc.fitting.moments import Moments

SHAPES = [(1, 1), (1, 7), (5, 1), (7, 13), (12, 40), (40, 12), (3, 67)]  # (m, n)


def weight_of(m: int, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(m, n))


def moments_of(n: int, count: int = 200, seed: int = 1, dead: int = 0) -> Moments:
    """Moments of correlated inputs with a mean; the first `dead` inputs are constant."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, n)) @ (rng.normal(size=(n, n)) * np.geomspace(1, 0.01, n)) + rng.normal(size=n)
    x[:, :dead] = 2.0
    moments = Moments.empty(n)
    moments.add(x)
    return moments


def awkward_moments(n: int) -> dict[str, Moments | None]:
    still = Moments.empty(n)
    still.add(np.ones((3, n)))
    return {
        "none": None,
        "many": moments_of(n),
        "few": moments_of(n, count=2),
        "dead": moments_of(n, dead=(n + 1) // 2),
        "still": still,
    }


def cost(weight: np.ndarray, fitted: np.ndarray, moments: Moments) -> float:
    """tr(D C D^T)."""
    d = weight - fitted
    return float(np.trace(d @ moments.covariance @ d.T))
