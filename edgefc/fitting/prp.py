"""PRP: a seeded matrix between two fitted vectors of scales, with an optional low-rank part.

The layer is PRPLinear: W' = diag(w) P diag(alpha) + out in / rank. The plain fit takes the nearest scales, then the
nearest low-rank part. The weighted fit starts there and alternates between exact steps:

    w        one quotient per output
    alpha    one system of n equations, with the matrix C * (P^T diag(w^2) P), entry by entry
    low rank of W - diag(w) P diag(alpha), see low_rank.py

Symbols: w (m,), alpha (n,), P (m, n) with entries of variance 1 / n.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from edgefc import generator
from edgefc.errors import ShapeError
from edgefc.fitting.fitted import Array, Fitted
from edgefc.fitting.low_rank import factors
from edgefc.fitting.moments import Moments
from edgefc.fitting.problem import Problem, problem
from edgefc.fitting.registry import serves
from edgefc.fitting.scales import balanced_scales, nearest_scales
from edgefc.fitting.truncated import nearest_low_rank
from edgefc.progress import steps

_SWEEPS = 30
_SETTLED = 1e-3  # the weighted fit stops if a sweep reduces the cost by less than this fraction
_DAMPING = 1e-12  # relative to the mean diagonal of the system, which a column of zeros in P makes singular


@dataclass(frozen=True, kw_only=True, eq=False)
class PRPFit(Fitted):
    """The parameters of PRPLinear.

    Attributes:
        in_scale      (n,) float64      out_scale     (m,) float64
        low_rank_in   (r, n) float64    low_rank_out  (m, r) float64      r can be 0
        projection    (m, n) float64 for distribution="orthogonal", which the layer stores; otherwise None
    """

    in_scale: Array
    out_scale: Array
    low_rank_in: Array
    low_rank_out: Array
    seed: int
    distribution: str
    projection: Array | None

    def dense(self) -> Array:
        p = self.projection
        if p is None:
            p = projection(self.seed, len(self.out_scale), len(self.in_scale), self.distribution)
        rank = len(self.low_rank_in)
        return self.out_scale[:, None] * p * self.in_scale + self.low_rank_out @ self.low_rank_in / max(rank, 1)

    @property
    def stored_bits(self) -> int:
        stored = 0 if self.projection is None else self.projection.size
        low_rank = self.low_rank_in.size + self.low_rank_out.size
        return 32 * (self.in_scale.size + self.out_scale.size + low_rank + stored)


def fit_prp(
    weight: ArrayLike,
    bias: ArrayLike | None,
    moments: Moments | None,
    distribution: str = "gaussian",
    rank: int = 0,
    seed: int = 0,
) -> PRPFit:
    """Returns scales and a low-rank part with a low tr((W - W') C (W - W')^T): a point that steps no longer improve.

    If the best scales are all zero, in_scale is one, so that training can change out_scale.

    Raises:
        ShapeError: the rank is not between 0 and min(m, n).
        UsageError: an unknown distribution.
    """
    given = problem(weight, bias, moments)
    m, n = given.weight.shape
    if not 0 <= rank <= min(m, n):
        raise ShapeError(f"a weight {(m, n)} needs a rank from 0 to {min(m, n)}, got {rank}.")
    p = projection(seed, m, n, distribution)
    plain = nearest_prp(given.weight, given.bias, p, distribution, seed, rank)
    return given.finished(plain, lambda _: _alternated(given, p, plain))


@serves("PRP")
def _fit(configuration: Any, weight: Array, bias: Array | None, moments: Moments | None, seed: int) -> PRPFit:
    return fit_prp(weight, bias, moments, configuration.distribution, configuration.rank, seed)


def projection(seed: int, m: int, n: int, distribution: str) -> Array:
    """Returns P of a PRPLinear, (m, n), with entries of variance 1 / n.

    "orthogonal" depends on the machine in its last bits, so the fit and the layer store it.

    Raises:
        UsageError: an unknown distribution.
    """
    if distribution == "hadamard":
        return _hadamard(seed, m, n)
    if distribution != "orthogonal":
        return generator.matrix(seed, m, n, distribution).astype(np.float64) / math.sqrt(n)
    normal = generator.matrix(seed, m, n, "gaussian").astype(np.float64)
    q, r = np.linalg.qr(normal.T if m <= n else normal)
    q = np.where(r.diagonal() < 0, -q, q)
    return q.T if m <= n else q * math.sqrt(m / n)


def _hadamard(seed: int, m: int, n: int) -> Array:
    """Returns the first m rows and n columns of H D2 H D1 / sqrt(N n): its entry is g[i ^ j] d1[j] with g = H d2."""
    length = 1 << (max(m, n) - 1).bit_length()
    first, g = generator.matrix(seed, 2, length, "rademacher").astype(np.float64)
    step = 1
    while step < length:
        pairs = g.reshape(-1, 2, step)
        g = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1).ravel()
        step *= 2
    entries: Array = g[np.arange(m)[:, None] ^ np.arange(n)] * (first[:n] / math.sqrt(length * n))
    return entries


def nearest_prp(weight: Array, bias: Array | None, p: Array, distribution: str, seed: int, rank: int) -> PRPFit:
    """Returns the plain fit for a given P: the nearest scales, then the nearest low-rank part of what they leave."""
    out_scale, in_scale = nearest_scales(weight, p)
    down, across = np.zeros((len(weight), 0)), np.zeros((weight.shape[1], 0))
    if rank:
        down, across = nearest_low_rank(weight - out_scale[:, None] * p * in_scale, rank)
    return PRPFit(
        in_scale=in_scale,
        out_scale=out_scale,
        low_rank_in=across.T * math.sqrt(rank),
        low_rank_out=down * math.sqrt(rank),
        seed=seed,
        distribution=distribution,
        projection=p if distribution == "orthogonal" else None,
        bias=bias,
    )


def _alternated(given: Problem, p: Array, plain: PRPFit) -> PRPFit:
    """Alternates from the plain fit until the cost no longer falls."""
    rank = len(plain.low_rank_in)
    w, alpha, down, up = plain.out_scale, plain.in_scale, plain.low_rank_in / max(rank, 1), plain.low_rank_out
    cost = np.inf
    for _ in steps(range(_SWEEPS), "fitting PRP scales"):
        target = given.weigh(given.weight - up @ down)
        w = _best_out_scale(given, p, alpha, target)
        alpha = _best_in_scale(given, p, w, alpha, target)
        scaled = w[:, None] * p * alpha
        if rank:
            down, up = factors(given.weight - scaled, given.covariance, rank)
        before, cost = cost, given.cost(scaled + up @ down)
        if cost >= before * (1 - _SETTLED):
            break
    w, alpha = balanced_scales(w, alpha, p)
    root = math.sqrt(rank)
    return replace(plain, in_scale=alpha, out_scale=w, low_rank_in=down * root, low_rank_out=up * root)


def _best_out_scale(given: Problem, p: Array, alpha: Array, target: Array) -> Array:
    """Returns the best w for this alpha, from target = (W - low rank) C."""
    scaled = p * alpha
    above, below = (scaled * target).sum(1), (scaled * given.weigh(scaled)).sum(1)
    best: Array = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return best


def _best_in_scale(given: Problem, p: Array, w: Array, alpha: Array, target: Array) -> Array:
    """Returns the best alpha for this w."""
    scaled = w[:, None] * p
    system = (scaled.T @ scaled) * given.square()
    left_over = (scaled * target).sum(0) - system @ alpha
    system.flat[:: len(system) + 1] += _DAMPING * np.trace(system) / len(system) + 1e-300
    best: Array = alpha + np.linalg.solve(system, left_over)
    return best
