"""The seeded matrix in torch. The result is bit-identical to the specification in edgefc/generator/README.md.

torch supports few operations on uint32, so words are stored as int64 and masked to 32 bits after each product. The low
32 bits are correct even if an int64 product overflows.

A seed is an integer, or an int64 tensor () that holds it in two's complement. The tensor is not read, so programs of
torch.compile and torch.func.vmap use the value that it has when they run.
"""

from typing import SupportsIndex

import torch
from torch import Tensor

from edgefc.generator import (
    KEY_1,
    KEY_2,
    KEY_3,
    MULTIPLY_1,
    MULTIPLY_2,
    SHIFT_1,
    SHIFT_2,
    SHIFT_3,
    STRIDE,
    WORD_SHIFTS,
    check_seed,
    check_sizes,
    codebook,
    keys,
    words_per_row,
)

Seed = SupportsIndex | Tensor

_MASK = 0xFFFFFFFF
_ROWS_AT_ONCE = 256  # limits the int64 scratch memory to the words of 256 rows


def words(seed: Seed, rows: Tensor, columns: Tensor) -> Tensor:
    """Returns word(seed, row, column) for int64 rows (r,) and columns (c,): (r, c) int64, each below 2**32."""
    key_1, key_2 = _keys(seed.to(rows.device)) if isinstance(seed, Tensor) else keys(seed)
    shift_1, shift_2, shift_3 = WORD_SHIFTS
    row, column = rows[:, None], columns[None, :]
    start = _mix(row + key_1 & _MASK)
    twist = _mix((row * STRIDE & _MASK) ^ key_2)
    h = start + column * STRIDE & _MASK
    h = ((h ^ h >> shift_1) * MULTIPLY_1 & _MASK) ^ twist
    h = (h ^ h >> shift_2) * MULTIPLY_2 & _MASK
    return h ^ h >> shift_3


@torch.no_grad()
def matrix(
    seed: Seed,
    rows: SupportsIndex,
    columns: SupportsIndex,
    distribution: str,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Tensor:
    """Returns the seeded matrix (rows, columns) with entries of variance 1. Generates a band of rows at a time.

    Raises:
        UsageError: an unknown distribution, a seed outside 0 to 2**64 - 1, or a negative size.
    """
    codebook(distribution)  # raises for unknown names also if there are no rows
    height, columns = check_sizes(rows, columns)
    starts = range(0, height, _ROWS_AT_ONCE)
    bands = (torch.arange(first, min(first + _ROWS_AT_ONCE, height), device=device) for first in starts)
    if isinstance(seed, Tensor):  # vmap does not support in-place writes
        made = [rows_of(seed, band, columns, distribution, dtype=dtype) for band in bands]
        return torch.cat(made) if made else torch.empty(0, columns, dtype=dtype, device=device)
    seed = check_seed(seed)
    result = torch.empty(height, columns, dtype=dtype, device=device)
    for first, band in zip(starts, bands, strict=True):
        result[first : first + len(band)] = rows_of(seed, band, columns, distribution, dtype=dtype)
    return result


@torch.no_grad()
def rows_of(seed: Seed, index: Tensor, columns: SupportsIndex, distribution: str, *, dtype: torch.dtype) -> Tensor:
    """Returns the rows `index` of a seeded matrix with any number of rows: (*index.shape, columns).

    index is int32 or int64, of any shape, on any device. Only these rows are generated. The scratch memory is about
    twice the size of a float32 result.

    Raises:
        UsageError: an unknown distribution, a seed outside 0 to 2**64 - 1, or a negative number of columns.
    """
    book = codebook(distribution)
    _, columns = check_sizes(0, columns)
    device = index.device
    levels = torch.tensor(book.levels, dtype=torch.float32, device=device).to(dtype)
    grid = words(seed, index.flatten().long(), torch.arange(words_per_row(columns, book.bits), device=device))
    shifts = torch.arange(0, 32, book.bits, dtype=torch.int32, device=device)
    codes = (grid.to(torch.int32)[:, :, None] >> shifts & 2**book.bits - 1).flatten(1)[:, :columns]
    return levels.index_select(0, codes.flatten()).view(*index.shape, columns)


def signs(seed: Seed, count: SupportsIndex, *, row: int = 0, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Returns `count` seeded signs, +1 or -1: one row of the Rademacher matrix."""
    return matrix(seed, row + 1, count, "rademacher", dtype=dtype, device=device)[row]


def _keys(seed: Tensor) -> tuple[Tensor, Tensor]:
    """edgefc.generator.keys() for a tensor."""
    low, high = seed & _MASK, seed >> 32 & _MASK
    low = low ^ _mix(high + KEY_1 & _MASK)
    high = high ^ _mix(low + KEY_2 & _MASK)
    return low ^ _mix(high + KEY_3 & _MASK), high


def _mix(h: Tensor) -> Tensor:
    h = (h ^ h >> SHIFT_1) * MULTIPLY_1 & _MASK
    h = (h ^ h >> SHIFT_2) * MULTIPLY_2 & _MASK
    return h ^ h >> SHIFT_3
