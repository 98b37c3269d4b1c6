"""Fits the scales of a PRP layer to a trained matrix, in the Frobenius norm.

For a given alpha, diag(w) P diag(alpha) is nearest to W with w_i = ((P * W) alpha)_i / ((P * P) alpha^2)_i. The fit
therefore maximises sum_i ((P * W) alpha)_i^2 / ((P * P) alpha^2)_i over alpha.

Symbols: W (m, n), P (m, n), w (m,), alpha (n,).
"""

import numpy as np
from numpy.typing import NDArray

from edgefc.fitting.descent import descend
from edgefc.fitting.fitted import Array
from edgefc.fitting.truncated import leading

_FIRST_SWEEPS, _SWEEPS = 10, 200
_SETTLED = 1e-12
"""The fit stops if one step would reduce the squared distance by less than this fraction of it."""

_EXACT = 1e-24
"""The same limit as a fraction of the squared norm of the weight, for weights that the form represents exactly."""

_TINY = 1e-30  # replaces a zero denominator, which a row or column of zeros in P causes


def nearest_scales(weight: Array, p: Array) -> tuple[Array, Array]:
    """Returns w (m,) and alpha (n,) such that diag(w) P diag(alpha) approximates `weight` (m, n).

    w and alpha have the same norm, in each part of P that zeros separate from the others. The result is a stationary
    point, reached from the best rank-one approximations of weight * P. It is the optimum if all entries of P have the
    same magnitude. Otherwise it may not be.
    """
    size = float(np.linalg.norm(weight))
    if size == 0 or not (weight * p).any():  # if both scales were zero, their gradients would be zero
        return np.zeros(len(weight)), np.ones(weight.shape[1])
    fit = _Fit(weight / size, p)
    descend(fit.slopes, fit.move, fit.settled, sweeps=_SWEEPS, text="fitting scales")
    return balanced_scales(fit.out_scale() * size, fit.alpha, p)


def balanced_scales(out_scale: Array, in_scale: Array, p: Array) -> tuple[Array, Array]:
    """Returns scales with the same products, and equal norms in each part of P that zeros separate from the others.

    Within a part, one factor is free: it moves from one vector of scales to the other. A norm of zero stays.
    """
    rows, columns = _parts(p)
    size, other = (
        np.sqrt(np.bincount(labels, values**2, p.shape[1]))
        for labels, values in ((rows, out_scale), (columns, in_scale))
    )
    both = (size > 0) & (other > 0)
    ratio = np.sqrt(np.divide(size, other, out=np.ones_like(size), where=both))
    return out_scale / ratio[rows], in_scale * ratio[columns]


def _parts(p: Array) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns the part of each row and column: the lowest column that entries other than zero connect them to."""
    (m, n), used = p.shape, p != 0
    columns = np.arange(n)
    if used.all():
        return np.zeros(m, np.intp), np.zeros(n, np.intp)
    while True:
        rows = np.where(used, columns, n - 1).min(1)
        lowest = np.minimum(columns, np.where(used, rows[:, None], n - 1).min(0))
        if (lowest == columns).all():
            return rows, columns
        columns = lowest


class _Fit:
    """The current point alpha, with r = (P * W) alpha and s = (P * P) alpha^2. W has norm 1."""

    def __init__(self, weight: Array, p: Array) -> None:
        self.product, self.square = weight * p, p * p
        self.alpha = _start(self.product, self.square)
        self.r, self.s = self.product @ self.alpha, self.square @ self.alpha**2

    def out_scale(self) -> Array:
        return self.r / np.maximum(self.s, _TINY)

    def slopes(self) -> tuple[Array, Array]:
        w = self.out_scale()
        curvature = np.maximum(w**2 @ self.square, _TINY)
        slope = w @ self.product - self.alpha * curvature
        return slope, slope / curvature

    def settled(self, power: float) -> bool:
        left = max(1 - float(self.r @ self.out_scale()), 0.0)
        return power <= max(_SETTLED * left, _EXACT)

    def move(self, direction: Array) -> None:
        r1 = self.product @ direction
        s1, s2 = np.stack([2 * self.alpha * direction, direction**2]) @ self.square.T
        t = _best_step(self.r, r1, self.s, s1, s2)
        self.alpha = self.alpha + t * direction
        self.r = self.r + t * r1
        self.s = self.s + t * (s1 + t * s2)


def _start(product: Array, square: Array) -> Array:
    """Returns the best of five vectors after some sweeps of alternating least squares.

    Four are leading right singular vectors. One is noise, for a P with zeros: if `product` falls apart into independent
    parts, a singular vector is zero in all but one of them, and so are its sweeps.
    """
    noise = np.random.default_rng(0).standard_normal((1, product.shape[1]))
    alphas = np.concatenate([leading(product, min(4, *product.shape)).T, noise])
    for _ in range(_FIRST_SWEEPS):
        w = (alphas @ product.T) / np.maximum(alphas**2 @ square.T, _TINY)
        alphas = (w @ product) / np.maximum(w**2 @ square, _TINY)
        alphas = alphas / np.maximum(np.linalg.norm(alphas, axis=1, keepdims=True), _TINY)
    explained = (alphas @ product.T) ** 2 / np.maximum(alphas**2 @ square.T, _TINY)
    best: Array = alphas[explained.sum(1).argmax()]
    return best


def _best_step(r: Array, r1: Array, s: Array, s1: Array, s2: Array) -> float:
    """Returns the t that maximises the sum of (r + t r1)^2 / (s + t s1 + t^2 s2).

    The search starts from the best of 13 values and refines it by Newton's method. Near the end of an exact fit the
    values are equal to rounding error, and only the derivatives locate the maximum.
    """

    def at(t: Array) -> tuple[Array, Array, Array]:
        above, below = r + t[:, None] * r1, np.maximum(s + t[:, None] * (s1 + t[:, None] * s2), _TINY)
        w, rise = above / below, s1 + 2 * t[:, None] * s2
        first = w * (2 * r1 - w * rise)
        second = 2 * ((r1 - w * rise) ** 2 / below - w**2 * s2)
        return (w * above).sum(1), first.sum(1), second.sum(1)

    choices = np.logspace(-6, 6, 13, base=2.0)
    t = choices[[at(choices)[0].argmax()]]
    for _ in range(4):
        _, first, second = at(t)
        newton = t - first / np.where(second < 0, second, -1.0)
        if not (second[0] < 0 and newton[0] > 0):
            break
        t = newton
    return float(t[0])
