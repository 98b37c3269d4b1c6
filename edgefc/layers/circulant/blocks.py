"""Block-circulant matrices: argument checks, expansion, fitting and operation counts.

Source of the block form: Ding et al., "CirCNN", https://arxiv.org/abs/1708.08917.

Symbols: n inputs, m outputs, b block length, p = ceil(m / b) blocks down, q = ceil(n / b) blocks across. A block with
first column r is R[i, j] = r[(i - j) mod b]. Axes written "..." hold independent matrices, such as the positions of a
convolution's kernel.
"""

import math
import operator

import numpy as np
import torch
from torch import Tensor

from edgefc.errors import ShapeError
from edgefc.fitting import circulant
from edgefc.layers.common.fits import array, tensor
from edgefc.layers.common.onnx_node import is_size


def check_block(name: str, unit: str, n: int, m: int, block: int | None) -> int:
    """Returns the block length. The default is max(n, m). `unit` is "features" or "channels".

    Raises:
        ShapeError: a block below 1 or above max(n, m).
    """
    longest = max(n, m)
    if block is None:
        return longest
    if is_size(block) and block <= longest:
        return operator.index(block)
    raise ShapeError(
        f"{name} does not support block={block} for in_{unit}={n}, out_{unit}={m}. "
        f"Choose a block from 1 to {longest}, or None for a single circulant."
    )


def expand(kernel: Tensor, n: int, m: int) -> Tensor:
    """Returns the first m rows and n columns of the matrix of circulants in kernel (p, q, b, ...): (m, n, ...)."""
    p, q, b, *rest = kernel.shape
    blocks = kernel[:, :, _diagonals(b, kernel.device)]  # (p, q, b, b, ...)
    return blocks.transpose(1, 2).reshape(p * b, q * b, *rest)[:m, :n]


def diagonal_means(weight: Tensor, b: int) -> Tensor:
    """Returns the circulants nearest to weight (m, n, ...) in the Frobenius norm: (p, q, b, ...), float64.

    Each value is the mean of one wrapped diagonal of one block, over the entries within the weight.
    """
    m, n, *rest = weight.shape
    positions = array(weight).reshape(m, n, -1)
    means = np.stack([circulant.diagonal_means(positions[..., k], b) for k in range(positions.shape[-1])], -1)
    return tensor(means.reshape(*means.shape[:3], *rest), weight.device)


def transform(b: int) -> int:
    """Returns the multiply-adds of one real FFT of length b, rounded up: 1.25 b log2(b).

    A complex FFT has (b/2) log2(b) butterflies of ten operations. A real FFT takes half of them, which is the usual
    count of 2.5 b log2(b) operations for any length. One multiply-add is two operations.
    """
    return math.ceil(1.25 * b * math.log2(b))


def spectral_products(b: int) -> int:
    """Returns the multiply-adds of one product of the spectra of two real signals of length b.

    It is 1 for each real frequency and 4 for each complex one.
    """
    return 2 * b - (1 if b % 2 else 2)


def empty(x: Tensor, kernel: Tensor, *features: int) -> Tensor:
    """Returns the output (..., *features) for an empty batch x (..., n), with zero gradients.

    FFT libraries do not support empty batches.
    """
    return x.new_zeros(*x.shape[:-1], *features) + 0 * (x.sum() + kernel.sum()).to(x.dtype)


def fft_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype of the FFTs. Half precision is computed in float32, because it requires powers of two."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _diagonals(b: int, device: torch.device) -> Tensor:
    """Returns (i - j) mod b, (b, b)."""
    index = torch.arange(b, device=device)
    return (index[:, None] - index) % b
