"""The nearest matrix of low rank: a truncated SVD.

Symbols: matrix (m, n), r rank, down (m, r), across (n, r), approximation down across^T.
"""

import torch
from torch import Tensor

from edgefc.progress import steps

_EXACT_SIDE = 1024
"""Up to this number of rows or columns all eigenvectors are computed: under a second on one thread of a server."""

_BLOCKS, _SPARE = 16, 8
"""The Krylov space has _BLOCKS blocks of rank + _SPARE columns. On matrices of normal noise, whose singular values
decay most slowly, the distance is within 1e-6 of the minimum."""


def nearest_low_rank(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Returns the truncated SVD as down (m, r) and across (n, r), float64. Both columns of a pair have the same norm.

    If the product of a pair is zero, only its column in down is zero, so that training can change both.
    """
    matrix = matrix.double()
    if matrix.shape[0] >= matrix.shape[1]:
        across = _leading(matrix, rank)
    else:
        across = torch.linalg.qr(matrix.T @ _leading(matrix.T, rank)).Q
    return balanced(matrix @ across, across)


def balanced(down: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """Returns factors of the same product, with equal norms in each pair of columns. Keeps pairs with product zero."""
    size, other = down.norm(dim=0), across.norm(dim=0)
    ratio = torch.where(size * other > 0, (size / other).sqrt(), 1.0)
    return down / ratio, across * ratio


def _leading(matrix: Tensor, rank: int) -> Tensor:
    """Returns the leading right singular vectors as columns. Uses the Gram matrix, which takes half to a tenth of the
    time of an SVD.
    """
    side, width = matrix.shape[1], rank + _SPARE
    if side <= _EXACT_SIDE or 2 * _BLOCKS * width > side:
        return _eigenvectors(matrix, rank)
    basis = _krylov(matrix, width)
    return basis @ _eigenvectors(matrix @ basis, rank)


def _eigenvectors(matrix: Tensor, count: int) -> Tensor:
    vectors: Tensor = torch.linalg.eigh(matrix.T @ matrix).eigenvectors  # in ascending order of eigenvalues
    return vectors[:, -count:].flip(1)


def _krylov(matrix: Tensor, width: int) -> Tensor:
    """Returns an orthonormal basis of the span of G^i V for i < _BLOCKS, G = matrix^T matrix, V seeded noise."""
    noise = torch.Generator().manual_seed(0)
    block = torch.randn(matrix.shape[1], width, generator=noise, dtype=torch.float64).to(matrix.device)
    basis = block[:, :0]
    for _ in steps(range(_BLOCKS), "truncated SVD"):
        for _ in range(2):  # two passes give orthogonality to rounding error
            block = block - basis @ (basis.T @ block)
            block = torch.linalg.qr(block).Q
        basis = torch.cat([basis, block], 1)
        block = matrix.T @ (matrix @ block)
    return basis
