"""EUGen with the identity as activation: seeded random features of the inputs, then a fitted matrix.

The layer is EUGenLinear(order=1, activation="identity", norm=False): W' = V G, with G (features, n) from the seed. The
cost is least at V = W C G^T (G C G^T)^-1. Layers with other activations are fitted to batches of inputs and outputs
(edgefc.fit_closed_form), because moments of the inputs do not determine them.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgefc import generator
from edgefc.errors import ShapeError
from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.moments import Moments
from edgefc.fitting.problem import Problem, problem
from edgefc.fitting.registry import serves


@dataclass(frozen=True, kw_only=True, eq=False)
class EUGenFit(Fitted):
    """The parameters of EUGenLinear with the identity as activation, order 1, and nothing appended to the inputs.

    Attributes:
        weight         (m, features) float64
        seed           of the features, with the distribution of their entries
    """

    weight: Array
    seed: int
    distribution: str
    in_features: int

    def dense(self) -> Array:
        return self.weight @ features_matrix(self.seed, self.weight.shape[1], self.in_features, self.distribution)

    @property
    def stored_bits(self) -> int:
        return 32 * self.weight.size


def fit_eugen(
    weight: ArrayLike,
    bias: ArrayLike | None,
    moments: Moments | None,
    features: int = 64,
    distribution: str = "gaussian",
    seed: int = 0,
) -> EUGenFit:
    """Returns the layer on seeded features that minimises tr((W - W') C (W - W')^T). Exact.

    Raises:
        ShapeError: the number of features is below 1.
        UsageError: an unknown distribution.
    """
    given = problem(weight, bias, moments)
    if features < 1:
        raise ShapeError(f"an EUGen fit needs at least 1 feature, got {features}.")
    g = features_matrix(seed, features, given.weight.shape[1], distribution)
    start = np.asarray(np.linalg.lstsq(g.T, given.weight.T, rcond=None)[0].T, np.float64)
    plain = EUGenFit(weight=start, seed=seed, distribution=distribution, in_features=g.shape[1])
    return given.finished(plain, lambda product: replace(plain, weight=start + _added(given, product, g)))


@serves("EUGen")
def _fit(configuration: Any, weight: Array, bias: Array | None, moments: Moments | None, seed: int) -> EUGenFit:
    return fit_eugen(weight, bias, moments, configuration.features, seed=seed)


def features_matrix(seed: int, features: int, inputs: int, distribution: str) -> Array:
    """Returns G, (features, inputs), with entries of variance 1 / inputs."""
    return generator.matrix(seed, features, inputs, distribution).astype(np.float64) / math.sqrt(inputs)


def _added(given: Problem, product: Array, g: Array) -> Array:
    """Returns what the best V adds to one with the error D, from product = D C."""
    inverse = np.linalg.pinv(given.weigh(g) @ g.T, rcond=1e-14 * len(g), hermitian=True)
    added: Array = product @ g.T @ inverse
    return added
