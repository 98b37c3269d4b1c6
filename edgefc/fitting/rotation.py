"""The seeded rotation of the inputs: random signs, then a Walsh-Hadamard transform in blocks."""

import numpy as np

from edgefc import generator
from edgefc.fitting.fitted import Array

_LARGEST_BLOCK = 128


def block_of(n: int) -> int:
    """Returns the block of the rotation of n inputs: the power of two at or above n, at most 128."""
    return min(_LARGEST_BLOCK, 1 << max(n - 1, 0).bit_length())


def signs(seed: int, width: int) -> Array:
    """Returns the random signs of the rotation, (width,): row 0 of the seeded Rademacher matrix."""
    row: Array = generator.matrix(seed, 1, width, "rademacher")[0].astype(np.float64)
    return row


def rotate(x: Array, seed: int, block: int) -> Array:
    """Returns the rotation of the last axis: the signs first, then the normalised transform in blocks.

    Shapes:
        x (..., K), K a multiple of block  ->  (..., K)
    """
    return _hadamard(x * signs(seed, x.shape[-1]), block)


def rotate_back(y: Array, seed: int, block: int) -> Array:
    """Returns the inverse of rotate(), which is its transpose."""
    return _hadamard(y, block) * signs(seed, y.shape[-1])


def _hadamard(x: Array, block: int) -> Array:
    """Applies the Walsh-Hadamard matrix in Sylvester's order, divided by sqrt(block), to blocks of the last axis."""
    shape, step = x.shape, 1
    while step < block:
        pairs = x.reshape(*shape[:-1], shape[-1] // (2 * step), 2, step)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([first + second, first - second], axis=-2).reshape(shape)
        step *= 2
    scaled: Array = x / np.sqrt(block)
    return scaled
