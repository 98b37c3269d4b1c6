"""The layout of codes of 3 bits and of their scales, in state dicts, .onnx files and the native kernel. numpy only.

The layout is part of the meaning of edgefc::Int3Linear and does not change. A matrix has m rows and K columns, K a
multiple of 32. Rows are in blocks of 16, columns in units of 32. The last block is filled up with the code 4, which is
the value 0, and with the scale 0.

packed (ceil(m / 16), K / 32, 192) uint8. The 192 bytes of a unit of a block are (3, 16, 4): word w, row r, lane j.
With c[i] for the code of row r and column 4 i + j of the unit, i from 0 to 7, the bits of the byte are:

    word   bits 0 to 2   bits 3 to 5   bit 6              bit 7
    0      c[0]          c[1]          bit 0 of c[6]      bit 1 of c[6]
    1      c[2]          c[3]          bit 0 of c[7]      bit 1 of c[7]
    2      c[4]          c[5]          bit 2 of c[6]      bit 2 of c[7]

So a vector of 4 bytes times any number of rows gets 4 columns of these rows from one shift and one mask, or from two of
each for two of the eight.

scales (ceil(m / 16), K / group, 16) float16. The value of a code is (code - 4) * scale.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS, BYTES = 16, 32, 192
"""Rows of a block, columns of a unit, and the bytes of a unit of a block."""

ZERO = 4
"""The code of the value 0."""

LEAST_GROUP, LARGEST_GROUP = COLUMNS, 1 << 12
"""A group is a power of two within these bounds."""

Bytes = NDArray[np.uint8]
Half = NDArray[np.float16]


def blocks(rows: int) -> int:
    """The number of blocks of this many rows."""
    return -(-rows // ROWS)


def pack(codes: Bytes) -> Bytes:
    """(m, K) codes from 0 to 7 -> (blocks, K / 32, 192)."""
    rows, columns = codes.shape
    whole = np.full((blocks(rows) * ROWS, columns), ZERO, np.uint8)
    whole[:rows] = codes
    c = whole.reshape(-1, ROWS, columns // COLUMNS, 8, 4).transpose(0, 2, 3, 1, 4)  # (blocks, units, 8, 16, 4)
    rest = [c[:, :, 6] & 3, c[:, :, 7] & 3, c[:, :, 6] >> 2 | c[:, :, 7] >> 2 << 1]
    packed: Bytes = (c[:, :, 0:6:2] | c[:, :, 1:6:2] << 3 | np.stack(rest, axis=2) << 6).astype(np.uint8)
    return packed.reshape(*c.shape[:2], BYTES)


def unpack(packed: Bytes, rows: int) -> Bytes:
    """The inverse of pack()."""
    words = packed.reshape(*packed.shape[:2], 3, ROWS, 4)
    rest = words >> 6
    c = np.empty((*packed.shape[:2], 8, ROWS, 4), np.uint8)
    c[:, :, 0:6:2], c[:, :, 1:6:2] = words & 7, words >> 3 & 7
    c[:, :, 6] = rest[:, :, 0] | (rest[:, :, 2] & 1) << 2
    c[:, :, 7] = rest[:, :, 1] | rest[:, :, 2] >> 1 << 2
    return c.transpose(0, 3, 1, 2, 4).reshape(-1, packed.shape[1] * COLUMNS)[:rows]


def pack_scales(scales: Half) -> Half:
    """(m, K / group) -> (blocks, K / group, 16)."""
    rows, groups = scales.shape
    whole = np.zeros((blocks(rows) * ROWS, groups), np.float16)
    whole[:rows] = scales
    return np.ascontiguousarray(whole.reshape(-1, ROWS, groups).transpose(0, 2, 1))


def unpack_scales(scales: NDArray[Any], rows: int) -> NDArray[Any]:
    """The inverse of pack_scales()."""
    return scales.transpose(0, 2, 1).reshape(-1, scales.shape[1])[:rows]
