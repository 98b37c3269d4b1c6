"""Generators with one known flaw each, and the check of test_generator_statistics.py that must see it.

A check that cannot fail proves nothing: each weak generator is run through the checks named beside it and has to
fail every one of them, and each check is named at least once. Most of these are what a first draft looks like.

All share the signature of edgefc.generator.words: seed, rows (r,) uint32, columns (c,) uint32 -> (r, c) uint32.
`strong` is the opposite: slow and conservative 64-bit arithmetic that must pass everything.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from edgefc import generator

Array = np.ndarray[Any, np.dtype[Any]]
Words = Callable[[int, Array, Array], Array]

GOLDEN = np.uint32(0x9E3779B9)
_MASK = 0xFFFFFFFF


def bare_counter(seed: int, rows: Array, columns: Array) -> Array:
    """One multiply of a counter: the low bits of a product have short periods, neighbours differ by a constant."""
    return (_grid(rows, columns, stride=65536) + np.uint32(seed & _MASK)) * np.uint32(0x85EBCA6B)


def flat_counter(seed: int, rows: Array, columns: Array) -> Array:
    """Good mixing of row * W + column + seed: the next seed is the same stream, one word on."""
    return _mix(_grid(rows, columns, stride=65536) + np.uint32(seed & _MASK))


def seed_added_to_row(seed: int, rows: Array, columns: Array) -> Array:
    """The matrix of seed + 1 is the matrix of seed, one row on."""
    return generator.words(0, rows + np.uint32(seed & _MASK), columns)


def row_key_of_32_bits(seed: int, rows: Array, columns: Array) -> Array:
    """Each row starts at a random place of one stream of 2**32 words: two rows soon overlap."""
    return _mix(_starts(seed, rows) + columns[None, :] * GOLDEN)


def late_twist(seed: int, rows: Array, columns: Array) -> Array:
    """As above with a second key xored in at the end: rows that overlap differ by a constant."""
    return row_key_of_32_bits(seed, rows, columns) ^ _mix(_starts(seed, rows) ^ np.uint32(0xC2B2AE35))


def truncated_seed(seed: int, rows: Array, columns: Array) -> Array:
    """Only the low half of the seed counts."""
    return generator.words(seed & _MASK, rows, columns)


def folded_seed(seed: int, rows: Array, columns: Array) -> Array:
    """Both halves of the seed count, but a bit flipped in both is flipped in none."""
    return generator.words((seed ^ seed >> 32) & _MASK, rows, columns)


def no_last_shift(seed: int, rows: Array, columns: Array) -> Array:
    """The last multiply is left as it is: its lowest bit saw only the lowest bit that went in."""
    key_1, key_2 = generator.keys(seed)
    start = _mix(rows + np.uint32(key_1))[:, None]
    h = start + columns[None, :] * GOLDEN
    return (h ^ h >> np.uint32(16) ^ np.uint32(key_2)) * np.uint32(0x735A2D97)


def leaning_bit(seed: int, rows: Array, columns: Array) -> Array:
    """One bit in 32 is set with probability 1/2 + 1/32."""
    words = generator.words(seed, rows, columns)
    other = generator.words(seed ^ 1 << 63, rows, columns)
    return np.where(other < np.uint32(2**32 // 16), words | np.uint32(128), words)


def leaning_nibble(seed: int, rows: Array, columns: Array) -> Array:
    """Every bit is fair; in one word of 64 the lowest code repeats the next one."""
    words = generator.words(seed, rows, columns)
    other = generator.words(seed ^ 1 << 63, rows, columns)
    copied = words & np.uint32(0xFFFFFFF0) | words >> np.uint32(4) & np.uint32(15)
    return np.where(other < np.uint32(2**32 // 64), copied, words)


def rows_in_pairs(seed: int, rows: Array, columns: Array) -> Array:
    """Rows 2i and 2i + 1 share eight bits in 32."""
    low = np.uint32(0x0000FF00)
    words = generator.words(seed, rows, columns)
    return words & ~low | generator.words(seed ^ 1 << 63, rows >> np.uint32(1), columns) & low


def columns_in_turn(seed: int, rows: Array, columns: Array) -> Array:
    """The column counter wraps after 31 words."""
    return generator.words(seed, rows, columns % np.uint32(31))


def two_tables(seed: int, rows: Array, columns: Array) -> Array:
    """Row 32 i + j is row i of one table xor row j of another: any two rows look independent, four do not."""
    upper = generator.words(seed, rows >> np.uint32(5), columns)
    return upper ^ generator.words(seed ^ 1 << 63, rows & np.uint32(31), columns)


def sliding_rows(seed: int, rows: Array, columns: Array) -> Array:
    """Row r + 1 is row r moved by one word, with a quarter of its bits flipped: no run of words is equal."""
    slid = _mix(_grid(rows, columns, stride=1) + np.uint32(generator.keys(seed)[0]))
    return slid ^ generator.words(seed, rows, columns) & generator.words(seed ^ 1 << 63, rows, columns)


def strong(seed: int, rows: Array, columns: Array) -> Array:
    """Not weak: (row, column) and the seed through five 64-bit finalisers of splitmix64. Passes every check."""
    h = rows.astype(np.uint64)[:, None] << np.uint64(32) | columns.astype(np.uint64)[None, :]
    key = _mix64(_mix64(np.full(1, seed, np.uint64)))
    h = _mix64(_mix64(_mix64(h ^ key) + key))
    return (h >> np.uint64(32)).astype(np.uint32)


def _grid(rows: Array, columns: Array, *, stride: int) -> Array:
    return rows[:, None] * np.uint32(stride) + columns[None, :]


def _starts(seed: int, rows: Array) -> Array:
    key_1, key_2 = generator.keys(seed)
    return _mix(_mix(rows + np.uint32(key_1)) ^ np.uint32(key_2))[:, None]


def _mix(h: Array) -> Array:
    """The finaliser of MurmurHash3 (A. Appleby, public domain)."""
    h = (h ^ h >> np.uint32(16)) * np.uint32(0x85EBCA6B)
    h = (h ^ h >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    return h ^ h >> np.uint32(16)


def _mix64(h: Array) -> Array:
    """The finaliser of splitmix64 (S. Vigna, public domain), after its increment."""
    h = h + np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ h >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ h >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return h ^ h >> np.uint64(31)


FAILS: dict[Words, tuple[str, ...]] = {
    bare_counter: ("moments", "code_frequencies", "neighbouring_codes", "spectrum"),
    flat_counter: ("seeds_share_no_stream", "seeds_uncorrelated"),
    seed_added_to_row: ("seeds_share_no_stream", "seeds_uncorrelated"),
    row_key_of_32_bits: ("rows_share_no_stream", "seeds_share_no_stream"),
    late_twist: ("rows_share_no_stream", "seeds_share_no_stream"),
    truncated_seed: ("seeds_share_no_stream", "avalanche_of_seed"),
    folded_seed: ("seeds_share_no_stream",),
    no_last_shift: ("neighbouring_codes", "row_correlation", "avalanche_of_column"),
    leaning_bit: ("moments", "code_frequencies"),
    leaning_nibble: ("code_frequencies", "neighbouring_codes"),
    rows_in_pairs: ("neighbouring_codes", "row_correlation", "avalanche_of_row"),
    columns_in_turn: ("column_correlation", "shifted_rows", "avalanche_of_column"),
    two_tables: ("column_correlation", "avalanche_of_row"),
    sliding_rows: ("shifted_rows", "avalanche_of_row"),
}
