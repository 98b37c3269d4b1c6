"""The seeded matrix in torch: the specification in edgefc/generator/README.md, to the bit.

torch has little arithmetic on uint32, so words are held in int64 and cut to 32 bits after each product: the
low 32 bits of a product that wraps are the right ones.

A seed is a whole number, or an int64 tensor () that holds it in two's complement. The tensor is not read: programs of
torch.compile and torch.func.vmap compute with whatever it holds when they run.
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
_ROWS_AT_ONCE = 256  # bounds the int64 scratch to a few rows of words


def words(seed: Seed, rows: Tensor, columns: Tensor) -> Tensor:
    """word(seed, row, column) for int64 rows (r,) and columns (c,): (r, c) int64, each below 2**32."""
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
    """The seeded matrix (rows, columns), entries of variance 1; built a band of rows at a time.

    Raises:
        UsageError: an unknown distribution, a seed that is not of 64 bits, or a negative size.
    """
    codebook(distribution)  # here too: without rows none is made
    height, columns = check_sizes(rows, columns)
    starts = range(0, height, _ROWS_AT_ONCE)
    bands = (torch.arange(first, min(first + _ROWS_AT_ONCE, height), device=device) for first in starts)
    if isinstance(seed, Tensor):  # nothing is written in place, which vmap would refuse
        made = [rows_of(seed, band, columns, distribution, dtype=dtype) for band in bands]
        return torch.cat(made) if made else torch.empty(0, columns, dtype=dtype, device=device)
    seed = check_seed(seed)
    result = torch.empty(height, columns, dtype=dtype, device=device)
    for first, band in zip(starts, bands, strict=True):
        result[first : first + len(band)] = rows_of(seed, band, columns, distribution, dtype=dtype)
    return result


@torch.no_grad()
def rows_of(seed: Seed, index: Tensor, columns: SupportsIndex, distribution: str, *, dtype: torch.dtype) -> Tensor:
    """Rows `index` of a seeded matrix of any height and so many columns: (*index.shape, columns).

    index holds int32 or int64 of any shape, on any device. Scratch is about twice a float32 result; nothing
    of the matrix but these rows is made.

    Raises:
        UsageError: an unknown distribution, a seed that is not of 64 bits, or a negative number of columns.
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
    """`count` seeded signs, +1 or -1: one row of the Rademacher matrix."""
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
