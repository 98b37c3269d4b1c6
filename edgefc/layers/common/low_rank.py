"""The nearest matrix of low rank, for tensors. edgefc.fitting.truncated computes it."""

from torch import Tensor

from edgefc.fitting import truncated
from edgefc.layers.common.fits import array, tensor


def nearest_low_rank(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Returns the truncated SVD as down (m, r) and across (n, r), float64. Both columns of a pair have the same norm.

    If the product of a pair is zero, only its column in down is zero, so that training can change both.
    """
    down, across = truncated.nearest_low_rank(array(matrix), rank)
    return tensor(down, matrix.device), tensor(across, matrix.device)
