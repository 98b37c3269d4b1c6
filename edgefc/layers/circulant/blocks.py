"""Block-circulant matrices: checked, written out, fitted and counted; for every layer that is made of them.

Source of the block form: Ding et al., "CirCNN", https://arxiv.org/abs/1708.08917.

Letters: n inputs, m outputs, b block length, p = ceil(m / b) blocks down, q = ceil(n / b) blocks across. A block with
first column r is R[i, j] = r[(i - j) mod b]. Axes written "..." hold independent matrices, such as the positions of a
convolution's kernel.
"""

import math
import operator

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError
from edgefc.layers.common.onnx_node import is_size


def check_block(name: str, unit: str, n: int, m: int, block: int | None) -> int:
    """The block length: max(n, m) unless given. `unit` is "features" or "channels".

    Raises:
        ShapeError: a block below 1 or above max(n, m).
    """
    longest = max(n, m)
    if block is None:
        return longest
    if is_size(block) and block <= longest:
        return operator.index(block)
    raise ShapeError(
        f"{name} cannot cut in_{unit}={n}, out_{unit}={m} into circulants of block={block}. "
        f"Choose a block from 1 to {longest}, or none for a single circulant."
    )


def expand(kernel: Tensor, n: int, m: int) -> Tensor:
    """The first m rows and n columns of the circulants in kernel (p, q, b, ...), entry by entry: (m, n, ...)."""
    p, q, b, *rest = kernel.shape
    blocks = kernel[:, :, _diagonals(b, kernel.device)]  # (p, q, b, b, ...)
    return blocks.transpose(1, 2).reshape(p * b, q * b, *rest)[:m, :n]


def diagonal_means(weight: Tensor, b: int) -> Tensor:
    """The circulants nearest to weight (m, n, ...) in the Frobenius norm: (p, q, b, ...).

    Each number is the mean over one wrapped diagonal of one block, over the entries that are there.
    """
    total, uses = _diagonal_sums(weight, b), _diagonal_sums(torch.ones_like(weight), b)
    return total / uses.clamp(min=1)


def transform(b: int) -> int:
    """Multiply-adds of one real FFT of length b: half of (b/2) log2(b) butterflies of ten operations, two in one.

    The usual count, 2.5 b log2(b) operations, whatever the length; rounded up.
    """
    return math.ceil(1.25 * b * math.log2(b))


def spectral_products(b: int) -> int:
    """Multiply-adds of one product of real signals' spectra: 1 for each real frequency, 4 for each complex one."""
    return 2 * b - (1 if b % 2 else 2)


def empty(x: Tensor, kernel: Tensor, *features: int) -> Tensor:
    """What an empty batch x (..., n) becomes, (..., *features): FFT libraries refuse one. Gradients are zeros."""
    return x.new_zeros(*x.shape[:-1], *features) + 0 * (x.sum() + kernel.sum()).to(x.dtype)


def fft_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype to transform in: FFTs in half precision need powers of two."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _diagonals(b: int, device: torch.device) -> Tensor:
    """(i - j) mod b, (b, b)."""
    index = torch.arange(b, device=device)
    return (index[:, None] - index) % b


def _diagonal_sums(weight: Tensor, b: int) -> Tensor:
    """Sum of weight (m, n, ...) over (i - j) mod b within each block, outside counted as zero: (p, q, b, ...)."""
    m, n, *rest = weight.shape
    p, q = math.ceil(m / b), math.ceil(n / b)
    padded = nn.functional.pad(weight, (*[0] * (2 * len(rest)), 0, q * b - n, 0, p * b - m))
    blocks = padded.reshape(p, b, q, b, *rest).transpose(1, 2).reshape(p, q, b * b, *rest)
    return weight.new_zeros(p, q, b, *rest).index_add(2, _diagonals(b, weight.device).flatten(), blocks)
