"""What the fits of structured layers read: a weight, and how much an error in each direction of the inputs costs.

The cost of an error D = W - W' is tr(D C D^T), with C the covariance of the inputs, or E[x x^T] for a layer without a
bias, which cannot correct the mean. Without moments C is the identity, and the fit is the nearest in the Frobenius
norm: the plain fit.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from edgefc.fitting.error import checked, corrected_bias, cost_matrix
from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.moments import Moments

F = TypeVar("F", bound=Fitted)

_RIDGE = 1e-8
"""Added to C, relative to its mean diagonal. In directions that no input had, the fit stays near the weight."""


@dataclass(frozen=True, eq=False)
class Problem:
    """The weight W (m, n), and C (n, n) with a mean diagonal of 1, or None for the identity."""

    weight: Array
    bias: Array | None
    moments: Moments | None
    covariance: Array | None

    @property
    def plain(self) -> "Problem":
        """The same problem with C = identity."""
        return replace(self, covariance=None)

    def weigh(self, rows: Array) -> Array:
        """Returns rows C for rows (..., n)."""
        return rows if self.covariance is None else rows @ self.covariance

    def square(self) -> Array:
        """Returns C, also if it is the identity."""
        return np.eye(self.weight.shape[1]) if self.covariance is None else self.covariance

    def cost(self, fitted: Array) -> float:
        """Returns tr(D C D^T) for W' = fitted."""
        return self._priced(fitted)[0]

    def finished(self, plain: F, weighted: Callable[[Array], F]) -> F:
        """Returns the fit with the lower cost, with its bias corrected.

        Args:
            plain       the fit for C = identity, which is the answer without moments
            weighted    returns the fit for C, given (W - W') C for the plain W'
        """
        chosen, matrix = plain, plain.dense()
        if self.covariance is not None:
            cost, product = self._priced(matrix)
            if cost > 0:
                other = weighted(product)
                del product
                other_matrix = other.dense()
                if self.cost(other_matrix) < cost:
                    chosen, matrix = other, other_matrix
        return replace(chosen, bias=corrected_bias(self.weight, matrix, self.bias, self.moments))

    def _priced(self, fitted: Array) -> tuple[float, Array]:
        """Returns tr(D C D^T) and D C."""
        error = self.weight - fitted
        product = self.weigh(error)
        return float(np.vdot(error, product)), product


def problem(weight: ArrayLike, bias: ArrayLike | None, moments: Moments | None) -> Problem:
    """Returns the problem of a layer. C is the identity without moments, and if it would be zero.

    Raises:
        ShapeError: the shapes do not go together.
        UsageError: a value is NaN or infinite, or the moments have no samples.
    """
    matrix, offset = checked(weight, bias, moments)
    c = cost_matrix(offset, moments)
    return Problem(matrix, offset, moments, None if c is None else _usable(c))


def _usable(covariance: Array) -> Array | None:
    """Divides the covariance in place by its mean diagonal, and adds a small ridge; None if it is zero."""
    size = float(np.trace(covariance)) / len(covariance)
    if not size > 0:
        return None
    covariance /= size
    covariance.flat[:: len(covariance) + 1] += _RIDGE
    return covariance
