"""Codes of 2, 4 or 8 bits, several in a byte, low bits first: the layout of MatMulNBits and GatherBlockQuantized."""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


def pack(codes: Bytes, bits: int) -> Bytes:
    """(R, K) codes, one in each byte -> (R, K * bits / 8). K must be a multiple of 8 / bits."""
    pieces = codes.reshape(len(codes), -1, 8 // bits).astype(np.uint8)
    packed = np.zeros(pieces.shape[:2], np.uint8)
    for place in range(8 // bits):
        packed |= pieces[:, :, place] << np.uint8(bits * place)
    return packed
