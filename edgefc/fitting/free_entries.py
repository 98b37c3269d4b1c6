"""Low-rank approximation of the used entries of a matrix. The other entries are unconstrained.

Symbols: blocks (m, n), used (m, n) of ones and zeros, r rank, down (m, r), across (n, r), E the error where used.
"""

import numpy as np

from edgefc.fitting.descent import descend
from edgefc.fitting.fitted import Array
from edgefc.fitting.truncated import balanced

_SWEEPS = 60
_SETTLED = 1e-9
"""The fit stops if one step would reduce the squared distance by less than this fraction of it."""

_EXACT = 1e-30
"""The same limit as a fraction of the squared norm of the weight, for weights that the form represents exactly."""


def nearest_where_used(blocks: Array, used: Array, down: Array, across: Array) -> tuple[Array, Array]:
    """Returns down and across, improved from the given ones to approximate `blocks` in the used entries.

    The result is a stationary point, or close to one after 60 sweeps. Both columns of a pair have the same norm.
    """
    fit = _Fit(blocks, used, down, across)
    descend(fit.slopes, fit.move, fit.settled, sweeps=_SWEEPS, text="fitting factors")
    return balanced(fit.down, fit.across)


class _Fit:
    """The current point (down, across), its error E and its squared distance."""

    def __init__(self, blocks: Array, used: Array, down: Array, across: Array) -> None:
        self.used, self.down, self.across = used, down, across
        self.error = (down @ across.T - blocks) * used
        self.distance, self.size = _dot(self.error, self.error), _dot(blocks, blocks)

    def slopes(self) -> tuple[Array, Array]:
        for_down, for_across = -(self.error @ self.across), -(self.error.T @ self.down)
        steps = _solved(for_down, self.across), _solved(for_across, self.down)
        return np.concatenate([for_down.ravel(), for_across.ravel()]), np.concatenate([step.ravel() for step in steps])

    def settled(self, power: float) -> bool:
        return power <= max(_SETTLED * self.distance, _EXACT * self.size)

    def move(self, direction: Array) -> None:
        cut = self.down.size
        down, across = direction[:cut].reshape(self.down.shape), direction[cut:].reshape(self.across.shape)
        first = np.concatenate([down, self.down], 1) @ np.concatenate([self.across, across], 1).T
        first *= self.used
        second = down @ across.T
        second *= self.used
        t = _best_step(self.error, first, second)
        self.down, self.across = self.down + t * down, self.across + t * across
        self.error += t * first
        self.error += t * t * second
        self.distance = _dot(self.error, self.error)


def _solved(slope: Array, other: Array) -> Array:
    """Returns the step of alternating least squares with fixed free entries: slope (other^T other)^-1."""
    gram = other.T @ other
    gram.flat[:: len(gram) + 1] += 1e-12 * gram.diagonal().max() + 1e-300
    return np.asarray(np.linalg.solve(gram, slope.T).T, np.float64)


def _best_step(error: Array, first: Array, second: Array) -> float:
    """Returns the positive t that minimises |error + t first + t^2 second|^2, or 0 if there is none."""
    squares = [
        _dot(error, error), 2 * _dot(error, first), _dot(first, first) + 2 * _dot(error, second),
        2 * _dot(first, second), _dot(second, second),
    ]  # fmt: skip
    distance = np.polynomial.Polynomial(squares)
    turns = distance.deriv().roots()
    real = [turn.real for turn in map(complex, turns) if abs(turn.imag) <= 1e-9 * abs(turn)]
    return min((t for t in real if t > 0), key=distance, default=0.0)


def _dot(a: Array, b: Array) -> float:
    return float(np.vdot(a, b))
