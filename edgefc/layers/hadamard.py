"""Walsh-Hadamard transforms as small matrix products, and the cut of a matrix of any size out of one.

H[i, j] = (-1)^(ones in the binary digits of i & j), Sylvester's order, orthogonal up to its length. The transform of
length a b is kron(H_a, H_b): for u laid out row by row as an (a, b) matrix U, H_ab u is H_a U H_b, 2 multiplications
by about sqrt(a b) numbers an entry in place of a b.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cut:
    """How n inputs and m outputs lie in a transform of `length` = high * low, the next power of two.

    rows_in and rows_out are the rows of the (high, low) matrix that inputs and outputs reach into; the others of the
    input are zeros that take part in nothing, the others of the output are never made.
    """

    high: int
    low: int
    rows_in: int
    rows_out: int

    @property
    def length(self) -> int:
        return self.high * self.low

    @property
    def multiply_adds(self) -> int:
        """Of one transform on rows_in rows and one that gives rows_out rows."""
        return (self.rows_in + self.rows_out) * (self.low * self.low + self.low * self.high)


def cut(in_features: int, out_features: int) -> Cut:
    """The cut for these sizes, low = high or 2 * high."""
    digits = (max(in_features, out_features) - 1).bit_length()
    high, low = 1 << digits // 2, 1 << (digits + 1) // 2
    return Cut(high, low, -(-in_features // low), -(-out_features // low))


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
