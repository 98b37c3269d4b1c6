"""For the tests of the bilinear layers: what each means, written again in numpy, in float64.

The formulas are those of the authors' code: Y[k, l] = sum_t sum_ij L_t[i, k] X[i, j] R_t[j, l] with X and Y row by row,
and as one matrix K[i d2 + j, k u2 + l] = sum_t L_t[i, k] R_t[j, l]. They share nothing with edgefc.layers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.layer_models import numbers as numbers

TERMS = [1, 3]


def kronecker(layer: Any, n: int, m: int) -> NDArray[np.float64]:
    """K, the first n rows and m columns, entry by entry."""
    left, right = numbers(layer.left), numbers(layer.right)
    d2, u2 = right.shape[1:]
    row, column = np.indices((n, m))
    result: NDArray[np.float64] = (left[:, row // d2, column // u2] * right[:, row % d2, column % u2]).sum(0)
    return result


def expected(layer: Any, x: NDArray[Any]) -> NDArray[np.float64]:
    """vec(L^T X R) + b for a BilinearLinear, by the double sum."""
    left, right = numbers(layer.left), numbers(layer.right)
    (_, d1, u1), (_, d2, u2) = left.shape, right.shape
    padded = np.zeros((*x.shape[:-1], d1 * d2))
    padded[..., : x.shape[-1]] = x
    y = np.einsum("...ij,tik,tjl->...kl", padded.reshape(*x.shape[:-1], d1, d2), left, right, optimize=True)
    y = y.reshape(*x.shape[:-1], u1 * u2)[..., : layer.out_features]
    return y if layer.bias is None else y + numbers(layer.bias)


def positions(x: NDArray[Any], kernel: tuple[int, int], stride: tuple[int, int], pads: Any) -> NDArray[np.float64]:
    """The patches of x (B, C, H, W) in the order (kh, kw, C), C fastest: (B, OH, OW, kh kw C).

    pads is (top, left, bottom, right), or None for TensorFlow's "same": as many zeros as ceil(size / stride) outputs
    take, the smaller half before.
    """
    sizes = x.shape[2:]
    if pads is None:
        total = [max((-(-h // s) - 1) * s + k - h, 0) for h, k, s in zip(sizes, kernel, stride, strict=True)]
        before = [t // 2 for t in total]
        pads = (*before, *(t - b for t, b in zip(total, before, strict=True)))
    top, left, bottom, right = pads
    image = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right))).transpose(0, 2, 3, 1)
    rows = range(0, image.shape[1] - kernel[0] + 1, stride[0])
    columns = range(0, image.shape[2] - kernel[1] + 1, stride[1])
    patches = [[image[:, r : r + kernel[0], c : c + kernel[1]].reshape(len(x), -1) for c in columns] for r in rows]
    return np.stack([np.stack(row, 1) for row in patches], 1)


def expected_images(
    layer: Any, x: NDArray[Any], kernel: tuple[int, int], stride: tuple[int, int], pads: Any
) -> NDArray[np.float64]:
    """What a BilinearConv2d means for images x (B, C, H, W): patches times K, and b; (B, M, OH, OW)."""
    patches = positions(x, kernel, stride, pads)
    y = patches @ kronecker(layer, patches.shape[-1], layer.out_channels)
    y = y if layer.bias is None else y + numbers(layer.bias)
    return y.transpose(0, 3, 1, 2)
