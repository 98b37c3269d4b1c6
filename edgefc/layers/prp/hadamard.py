"""Walsh-Hadamard transforms as small matrix products, and the cut of a matrix of any size out of one.

H[i, j] = (-1)^(ones in the binary digits of i & j), Sylvester's order, orthogonal up to its length. The transform of
length a b is kron(H_a, H_b): for u laid out row by row as an (a, b) matrix U, H_ab u is H_a U H_b, 2 multiplications
by about sqrt(a b) numbers an entry in place of a b.
"""

import torch
from torch import Tensor

from edgefc.layers.common.facts import Cut as Cut
from edgefc.layers.common.facts import cut as cut


def matrix(length: int, *, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """H of a length that is a power of two, (length, length), entries +1 and -1."""
    result = torch.ones(1, 1, dtype=dtype, device=device)
    while len(result) < length:
        result = torch.cat([torch.cat([result, result], 1), torch.cat([result, -result], 1)])
    return result


def transform(u: Tensor) -> Tensor:
    """H u over the last axis, a power of two long, by additions and subtractions."""
    length, step = u.shape[-1], 1
    while step < length:
        pairs = u.reshape(*u.shape[:-1], -1, 2, step)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        u = torch.stack([first + second, first - second], -2).reshape(u.shape)
        step *= 2
    return u
