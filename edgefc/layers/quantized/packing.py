"""Codes of 2, 4 or 8 bits, several in a byte, in the layout of onnxruntime's MatMulNBits.

The K codes of a row are cut into groups of consecutive codes. Each group has one scale in float16. A byte holds
8 / bits consecutive codes, low bits first. The value of a code is (code - 2**(bits - 1)) * scale, exact in float32.

Shapes:
    codes   (R, K) uint8          one code in each byte
    packed  (R, K / group, group * bits / 8) uint8
    scales  (R, K / group) float16
"""

import math
import operator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgefc.errors import UsageError
from edgefc.fitting.quantized import QuantizedFit, fit_quantized
from edgefc.layers.common.exact import exact

GROUPS = (16, 32, 64, 128, 256)
"""The groups that MatMulNBits supports."""


def check_storage(name: str, bits: int, group: int, supported: tuple[int, ...] = (2, 4, 8)) -> tuple[int, int]:
    """Returns bits and group as ints.

    Raises:
        UsageError: other values.
    """
    for argument, value, choices in (("bits", bits, supported), ("group", group, GROUPS)):
        if not isinstance(value, int) or isinstance(value, bool) or value not in choices:
            listed = ", ".join(map(str, choices))
            raise UsageError(f"{name} does not support {argument}={value!r}. Choose one of: {listed}.")
    return operator.index(bits), operator.index(group)


def pack(codes: Tensor, bits: int, group: int) -> Tensor:
    """Returns the packed codes. K must be a multiple of the group."""
    pieces = codes.reshape(len(codes), -1, group * bits // 8, 8 // bits)
    packed = torch.zeros_like(pieces[..., 0])
    for place in range(8 // bits):
        packed |= pieces[..., place] << bits * place
    return packed


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Returns the codes of packed rows (..., G, bytes): (..., G, group)."""
    if bits == 8:
        return packed
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    codes: Tensor = packed.unsqueeze(-1) >> shifts & 2**bits - 1
    return codes.flatten(-2)


def values(packed: Tensor, scales: Tensor, bits: int, dtype: torch.dtype) -> Tensor:
    """Returns the numbers of packed rows (..., G, bytes) with scales (..., G): (..., K) in `dtype`."""
    with exact():
        steps = unpack(packed, bits).to(torch.float32) - 2 ** (bits - 1)
        numbers: Tensor = steps * scales.to(torch.float32).unsqueeze(-1)
        return numbers.flatten(-2).to(dtype)


def draw(packed: Tensor, scales: Tensor, bits: int, bound: float) -> None:
    """Draws uniform codes. The scales give the numbers the variance of U(-bound, bound)."""
    packed.random_(0, 256)
    mean_square = (4**bits + 2) / 12  # of -2**(bits - 1) ... 2**(bits - 1) - 1
    scales.fill_(bound / math.sqrt(3 * mean_square))


def buffers(rows: tuple[int, int], bits: int, group: int, device: torch.device | str | None) -> dict[str, Tensor]:
    """Returns empty codes and scales for (R, G) groups."""
    return {
        "codes": torch.empty(*rows, group * bits // 8, dtype=torch.uint8, device=device),
        "scales": torch.empty(*rows, dtype=torch.float16, device=device),
    }


def numbers(packed: Tensor, scales: Tensor, bits: int) -> int:
    """Returns the number of codes and scales."""
    return packed.numel() * 8 // bits + scales.numel()


def load(
    packed: Tensor, scales: Tensor, codes: NDArray[np.uint8], steps: NDArray[np.float16], bits: int, group: int
) -> None:
    """Copies codes (R, K) and scales (R, K / group) of a fit. Groups beyond those of the layer are left out: they
    multiply zeros."""
    count = scales.shape[1]
    packed.copy_(pack(torch.from_numpy(codes[:, : count * group]), bits, group))
    scales.copy_(torch.from_numpy(steps[:, :count]))


@torch.no_grad()
def load_bias(bias: Tensor | None, fitted: NDArray[np.float64] | None) -> None:
    """Copies the bias of a fit."""
    if bias is not None and fitted is not None:
        bias.copy_(torch.from_numpy(fitted))


def nearest(weight: Tensor, bias: Tensor | None, bits: int, group: int) -> QuantizedFit:
    """Returns each number of the rows (R, n) rounded to the nearest code. The group is smaller if n is."""
    rows, addend = (None if each is None else each.detach().double().cpu().numpy() for each in (weight, bias))
    assert rows is not None
    return fit_quantized(rows, addend, None, bits, narrow(group, rows.shape[1]), method="nearest")


def narrow(group: int, inputs: int) -> int:
    """Returns the group for rows of `inputs` numbers: the smallest supported one that holds them, at most `group`."""
    return min(group, next((size for size in GROUPS if size >= inputs), group))
