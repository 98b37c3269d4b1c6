"""Fits the scales of a PRP layer to a trained matrix.

For a given alpha, diag(w) P diag(alpha) is nearest to W with w_i = ((P * W) alpha)_i / ((P * P) alpha^2)_i. The fit
therefore maximises sum_i ((P * W) alpha)_i^2 / ((P * P) alpha^2)_i over alpha.

Symbols: W (m, n), P (m, n), w (m,), alpha (n,).
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from edgefc.layers.common.descent import descend
from edgefc.layers.common.onnx_node import check_finite

_FIRST_SWEEPS, _SWEEPS = 10, 200
_SETTLED = 1e-12
"""The fit stops if one step would reduce the squared distance by less than this fraction of it."""

_EXACT = 1e-24
"""The same limit as a fraction of the squared norm of the weight, for weights that the form represents exactly."""

_TINY = 1e-30  # replaces a zero denominator, which a row or column of zeros in P causes


def nearest_scales(weight: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Returns w (m,) and alpha (n,) such that diag(w) P diag(alpha) approximates `weight` (m, n), float64.

    w and alpha have the same norm. The result is a stationary point, reached from the best rank-one approximations of
    weight * P. It is the optimum if all entries of P have the same magnitude. Otherwise it may not be.

    Raises:
        UsageError: NaN or infinite values.
    """
    check_finite(weight)
    size = float(weight.norm())
    if size == 0 or not (weight * p).any():  # if both scales were zero, their gradients would be zero
        return weight.new_zeros(len(weight)), weight.new_ones(weight.shape[1])
    fit = _Fit(weight / size, p)
    descend(fit.slopes, fit.move, fit.settled, sweeps=_SWEEPS, text="fitting scales")
    out_scale, in_scale = fit.out_scale() * size, fit.alpha
    balance = (out_scale.norm() / in_scale.norm()).sqrt()
    return out_scale / balance, in_scale * balance


class _Fit:
    """The current point alpha, with r = (P * W) alpha and s = (P * P) alpha^2. W has norm 1."""

    def __init__(self, weight: Tensor, p: Tensor) -> None:
        self.product, self.square = weight * p, p * p
        self.alpha = _start(self.product, self.square)
        self.r, self.s = self.product @ self.alpha, self.square @ self.alpha.square()

    def out_scale(self) -> Tensor:
        return self.r / self.s.clamp(min=_TINY)

    def slopes(self) -> tuple[Tensor, Tensor]:
        w = self.out_scale()
        curvature = (w.square() @ self.square).clamp(min=_TINY)
        slope = w @ self.product - self.alpha * curvature
        return slope, slope / curvature

    def settled(self, power: float) -> bool:
        left = max(1 - float(self.r @ self.out_scale()), 0.0)
        return power <= max(_SETTLED * left, _EXACT)

    def move(self, direction: Tensor) -> None:
        r1 = self.product @ direction
        s1, s2 = linear(torch.stack([2 * self.alpha * direction, direction.square()]), self.square)
        t = _best_step(self.r, r1, self.s, s1, s2)
        self.alpha = self.alpha + t * direction
        self.r = self.r + t * r1
        self.s = self.s + t * (s1 + t * s2)


def _start(product: Tensor, square: Tensor) -> Tensor:
    """Returns the best of the four leading right singular vectors after some sweeps of alternating least squares."""
    with torch.random.fork_rng(devices=[product.device] if product.is_cuda else []):
        torch.manual_seed(0)
        _, _, right = torch.svd_lowrank(product, q=min(4, *product.shape), niter=8)
    alphas = right.T
    for _ in range(_FIRST_SWEEPS):
        w = linear(alphas, product) / linear(alphas.square(), square).clamp(min=_TINY)
        alphas = (w @ product) / (w.square() @ square).clamp(min=_TINY)
        alphas = alphas / alphas.norm(dim=1, keepdim=True).clamp(min=_TINY)
    explained = linear(alphas, product).square() / linear(alphas.square(), square).clamp(min=_TINY)
    return alphas[explained.sum(1).argmax()]


def _best_step(r: Tensor, r1: Tensor, s: Tensor, s1: Tensor, s2: Tensor) -> float:
    """Returns the t that maximises the sum of (r + t r1)^2 / (s + t s1 + t^2 s2).

    The search starts from the best of 13 values and refines it by Newton's method. Near the end of an exact fit the
    values are equal to rounding error, and only the derivatives locate the maximum.
    """

    def at(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        above, below = r + t[:, None] * r1, (s + t[:, None] * (s1 + t[:, None] * s2)).clamp(min=_TINY)
        w, rise = above / below, s1 + 2 * t[:, None] * s2
        first = w * (2 * r1 - w * rise)
        second = 2 * ((r1 - w * rise).square() / below - w.square() * s2)
        return (w * above).sum(1), first.sum(1), second.sum(1)

    steps = torch.logspace(-6, 6, 13, base=2.0, dtype=r.dtype, device=r.device)
    t = steps[at(steps)[0].argmax()][None]
    for _ in range(4):
        _, first, second = at(t)
        newton = t - first / second
        if not (second < 0 and newton > 0):
            break
        t = newton
    return float(t)
