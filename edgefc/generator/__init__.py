"""The seeded matrix: a counter-based generator in uint32 arithmetic, here in numpy.

README.md in this folder is the specification. golden.json contains test vectors. All implementations reproduce them
bit for bit: this one, edgefc.layers.common.seeded (torch) and edgefc.export.building.seeded (ONNX).

    seed, row, column  ->  word(seed, row, column)      32 bits, stateless
    word               ->  codes of 1, 2, 4 or 8 bits   low bits first, for consecutive inputs
    code               ->  levels[code]                 float32, mean 0, variance 1
"""

import math
import operator
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from edgefc.attributes import CODE_BITS as CODE_BITS
from edgefc.errors import UsageError

VERSION = 1

SHIFT_1, MULTIPLY_1, SHIFT_2, MULTIPLY_2, SHIFT_3 = 16, 0x21F0AAAD, 15, 0x735A2D97, 15
"""The parameters of the finaliser, by TheIronBorn, https://github.com/skeeto/hash-prospector/issues/19.

Here a twist is applied between the multiplications. tests/generator/test_statistics.py is the only evidence for the
quality of this combination."""

WORD_SHIFTS = 16, 15, 16
"""The shifts of `words`, which applies the twist between them. The last is 16, while it is 15 in the finaliser."""

STRIDE = 0x9E3779B9
"""2**32 divided by the golden ratio, an odd number: its multiples modulo 2**32 reach every word."""

KEY_1, KEY_2, KEY_3 = 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F
"""Odd constants that distinguish the three rounds of the seed."""

_MASK = 0xFFFFFFFF
_GAUSSIAN = (0.07938034, 0.24014291, 0.40728647, 0.58651793, 0.78667235, 1.0243342, 1.3408977, 1.9899809)
_TERNARY_SIZE, _TERNARY_COUNT = 1.7253244, 43  # sqrt(256 / 86): 43 of 256 codes on either side
_THIRDS_SIZE, _THIRDS_COUNT = 1.227144, 85  # sqrt(256 / 170): 85 of 256 codes on either side
_SPARSE_SIZE = 1.4142135  # sqrt(2)
_UNIFORM_STEPS = 21845  # the mean square of the odd numbers from -255 to 255: (256**2 - 1) / 3


@dataclass(frozen=True)
class Codebook:
    """The values of codes of `bits` bits: `levels` has 2**bits float32 values with mean 0 and variance 1."""

    bits: int
    levels: tuple[float, ...]


def _three_levels(bits: int, size: float, count: int) -> Codebook:
    """Returns the levels -size, 0, size: `count` codes each for -size and size, the others for 0."""
    return Codebook(bits, (-size,) * count + (0.0,) * (2**bits - 2 * count) + (size,) * count)


CODEBOOKS = {
    # +1, -1
    "rademacher": Codebook(1, (1.0, -1.0)),
    # the mean of N(0, 1) within each of 16 intervals of equal probability, scaled to variance 1
    "gaussian": Codebook(4, tuple(-level for level in reversed(_GAUSSIAN)) + _GAUSSIAN),
    # -s, 0, +s with probabilities 43/256, 170/256, 43/256, the nearest to 1/6, 2/3, 1/6
    "ternary": _three_levels(8, _TERNARY_SIZE, _TERNARY_COUNT),
    # -s, 0, +s with probabilities 85/256, 86/256, 85/256, the nearest to 1/3 each
    "ternary_thirds": _three_levels(8, _THIRDS_SIZE, _THIRDS_COUNT),
    # -s, 0, +s with probabilities 1/4, 1/2, 1/4: two bits, while ternary needs eight
    "sparse": _three_levels(2, _SPARSE_SIZE, 1),
    # 256 equidistant levels, each rounded to float32
    "uniform": Codebook(8, tuple((2 * code - 255) / math.sqrt(_UNIFORM_STEPS) for code in range(256))),
}


def codebook(distribution: str) -> Codebook:
    """Returns the codebook of a distribution.

    Raises:
        UsageError: the distribution is unknown.
    """
    try:
        return CODEBOOKS[distribution]
    except (KeyError, TypeError):
        raise UsageError(f"unknown distribution {distribution!r}. Choose one of: {', '.join(CODEBOOKS)}.") from None


def check_seed(seed: SupportsIndex) -> int:
    """Returns the seed as an int. Accepts any integer type, from 0 to 2**64 - 1.

    Raises:
        UsageError: any other value.
    """
    number = _as_int(seed)
    if number is None or not 0 <= number < 2**64:
        raise UsageError(f"seed must be an integer from 0 to 2**64 - 1, got {seed!r}.")
    return number


def check_sizes(rows: SupportsIndex, columns: SupportsIndex) -> tuple[int, int]:
    """Returns rows and columns as ints. Accepts any integer type, from 0 up.

    Raises:
        UsageError: any other value.
    """
    r, c = _as_int(rows), _as_int(columns)
    if r is None or c is None or r < 0 or c < 0:
        raise UsageError(f"rows and columns must be integers from 0 up, got rows={rows!r}, columns={columns!r}.")
    return r, c


def mix(h: int) -> int:
    """Applies the finaliser to one 32-bit word."""
    h ^= h >> SHIFT_1
    h = h * MULTIPLY_1 & _MASK
    h ^= h >> SHIFT_2
    h = h * MULTIPLY_2 & _MASK
    return h ^ h >> SHIFT_3


def keys(seed: SupportsIndex) -> tuple[int, int]:
    """Returns two 32-bit keys for a 64-bit seed. Three Feistel rounds ensure that no two seeds share both keys."""
    seed = check_seed(seed)
    low, high = seed & _MASK, seed >> 32
    low ^= mix((high + KEY_1) & _MASK)
    high ^= mix((low + KEY_2) & _MASK)
    low ^= mix((high + KEY_3) & _MASK)
    return low, high


def words_per_row(columns: int, bits: int) -> int:
    """Returns the number of 32-bit words in one row of `columns` codes."""
    return -(-columns * bits // 32)


def words(seed: SupportsIndex, rows: NDArray[np.uint32], columns: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Returns word(seed, row, column) for every row and column word.

    Shapes:
        rows (r,), columns (c,), uint32   ->   (r, c) uint32
    """
    key_1, key_2 = map(np.uint32, keys(seed))
    shift_1, shift_2, shift_3 = map(np.uint32, WORD_SHIFTS)
    row, column = rows.astype(np.uint32)[:, None], columns.astype(np.uint32)[None, :]
    start = _mix(row + key_1)
    twist = _mix(row * np.uint32(STRIDE) ^ key_2)
    h: NDArray[np.uint32] = start + column * np.uint32(STRIDE)
    h = (h ^ h >> shift_1) * np.uint32(MULTIPLY_1) ^ twist
    h = (h ^ h >> shift_2) * np.uint32(MULTIPLY_2)
    return h ^ h >> shift_3


def codes(seed: SupportsIndex, rows: SupportsIndex, columns: SupportsIndex, bits: SupportsIndex) -> NDArray[np.uint8]:
    """Returns the codes of a whole matrix, (rows, columns) uint8, each below 2**bits.

    Raises:
        UsageError: a seed outside 0 to 2**64 - 1, a negative size, or bits other than 1, 2, 4 or 8.
    """
    rows, columns = check_sizes(rows, columns)
    width = _as_int(bits)
    if width not in CODE_BITS:
        raise UsageError(f"unsupported bits={bits!r}. Choose one of: {', '.join(map(str, CODE_BITS))}.")
    count = words_per_row(columns, width)
    grid = words(seed, np.arange(rows, dtype=np.uint32), np.arange(count, dtype=np.uint32))
    shifts = np.arange(0, 32, width, dtype=np.uint32)
    cut = (grid[:, :, None] >> shifts & np.uint32(2**width - 1)).astype(np.uint8)
    return cut.reshape(rows, count * len(shifts))[:, :columns]


def matrix(seed: SupportsIndex, rows: SupportsIndex, columns: SupportsIndex, distribution: str) -> NDArray[np.float32]:
    """Returns the seeded matrix, (rows, columns) float32, with entries of variance 1. Row = output, column = input.

    Raises:
        UsageError: an unknown distribution, a seed outside 0 to 2**64 - 1, or a negative size.
    """
    book = codebook(distribution)
    return np.array(book.levels, np.float32)[codes(seed, rows, columns, book.bits)]


def _as_int(value: SupportsIndex) -> int | None:
    """Returns an integer of any type as an int, or None for any other value, including booleans."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _mix(h: NDArray[np.uint32]) -> NDArray[np.uint32]:
    h = (h ^ h >> np.uint32(SHIFT_1)) * np.uint32(MULTIPLY_1)
    h = (h ^ h >> np.uint32(SHIFT_2)) * np.uint32(MULTIPLY_2)
    return h ^ h >> np.uint32(SHIFT_3)
