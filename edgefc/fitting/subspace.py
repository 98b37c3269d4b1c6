"""The best factors of a rank, in the weight of a covariance."""

import numpy as np

from edgefc.fitting.error import damped, row_errors
from edgefc.fitting.fitted import Array

_DAMPING = 1e-8  # decides between matrices that C does not tell apart


def factors(weight: Array, covariance: Array | None, rank: int) -> tuple[Array, Array]:
    """Returns down (r, n) and up (m, r) with the smallest tr(D C D^T), D = W - up @ down.

    The truncated SVD if C is None. Never worse than it: where rounding makes it better, it is returned.
    """
    plain = _balanced(weight, _leading(weight, rank))
    if covariance is None:
        return plain
    white = weight @ np.linalg.cholesky(damped(covariance, _DAMPING))
    best = _balanced(weight, _leading(white, rank))
    errors = [row_errors(weight - up @ down, covariance).sum() for down, up in (best, plain)]
    return best if errors[0] <= errors[1] else plain


def _leading(matrix: Array, rank: int) -> Array:
    """Returns the leading left singular vectors of a matrix (m, n): (m, r), orthonormal."""
    m, n = matrix.shape
    if m <= n:
        start = np.linalg.eigh(matrix @ matrix.T)[1][:, ::-1][:, :rank]
    else:
        start = matrix @ np.linalg.eigh(matrix.T @ matrix)[1][:, ::-1][:, :rank]
    # The Gram matrix squares the singular values; one step of subspace iteration restores the accuracy.
    basis = np.linalg.qr(start)[0]
    return np.linalg.qr(matrix @ (matrix.T @ basis))[0]


def _balanced(weight: Array, basis: Array) -> tuple[Array, Array]:
    """Returns down and up with up @ down = basis basis^T W, and equal norms of each column and row."""
    down = basis.T @ weight
    norms = np.linalg.norm(down, axis=1)
    roots = np.sqrt(np.where(norms > 0, norms, 1.0))
    return down / roots[:, None], basis * roots
