"""Walsh-Hadamard transforms as small matrix products, for matrices of any size.

H[i, j] = (-1)^(number of ones in the binary digits of i & j), in Sylvester's order. H is orthogonal up to a factor. The
transform of length a b is kron(H_a, H_b): with u reshaped row by row to an (a, b) matrix U, H_ab u is H_a U H_b. For
a = b this takes 2 sqrt(a b) multiply-adds per entry instead of a b.
"""

import torch
from torch import Tensor

from edgefc.layers.common.facts import Cut as Cut
from edgefc.layers.common.facts import cut as cut


def matrix(length: int, *, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Returns H, (length, length), with entries +1 and -1. `length` must be a power of two."""
    result = torch.ones(1, 1, dtype=dtype, device=device)
    while len(result) < length:
        result = torch.cat([torch.cat([result, result], 1), torch.cat([result, -result], 1)])
    return result


def transform(u: Tensor) -> Tensor:
    """Returns H u over the last axis, by additions and subtractions. Its size must be a power of two."""
    length, step = u.shape[-1], 1
    while step < length:
        pairs = u.reshape(*u.shape[:-1], -1, 2, step)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        u = torch.stack([first + second, first - second], -2).reshape(u.shape)
        step *= 2
    return u
