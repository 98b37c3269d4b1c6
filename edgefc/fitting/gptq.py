"""Rounding that is aware of the covariance C of the inputs: it minimises tr(D C D^T), D = W - W'.

gptq() compensates the error of each rounded weight with the weights that are not rounded yet (Frantar et al. 2022).
improved() then changes one input's codes, or one group's scales, at a time, and never increases the error.

Rows of W are independent. All arrays here are transposed, (K, m), so that one input of all rows is contiguous.
"""

from collections.abc import Iterator

import numpy as np

from edgefc.fitting.fitted import Array, Half
from edgefc.fitting.rounding import Rounded, code_of, search, to_scales

_BLOCK = 32  # inputs between two updates of everything that follows


def gptq(weight: Array, covariance: Array, bits: int, group: int) -> Rounded:
    """Returns codes and scales.

    With C = R R^T, R upper triangular, the error is that of D R: input j meets only the errors of inputs before it.

    Shapes:
        weight (K, m), covariance (K, K) positive definite  ->  codes (K, m) float64, scales (K / group, m)
    """
    factor = np.linalg.cholesky(covariance[::-1, ::-1])[::-1, ::-1]
    width, m = weight.shape
    codes, scales, errors = np.empty_like(weight), np.empty((width // group, m), np.float16), np.empty_like(weight)
    for first in range(0, width, group):
        last = first + group
        arrived = factor[:first, first:last].T @ errors[:first]
        square = factor[first:last, first:last]
        moved = weight[first:last] + np.linalg.solve(square.T, arrived)
        found = search(moved, np.diag(square)[:, None] ** 2, bits)
        scales[first // group] = found
        scale = found.astype(np.float64)
        for start, end in _blocks(first, last):
            arrived[start - first : end - first] += factor[first:start, start:end].T @ errors[first:start]
            for j in range(start, end):
                pull = arrived[j - first] + factor[start:j, j] @ errors[start:j]
                codes[j] = code_of(weight[j] + pull / factor[j, j], scale, bits)
                errors[j] = weight[j] - codes[j] * scale
    return codes, scales


def improved(weight: Array, covariance: Array, bits: int, codes: Array, scales: Half, sweeps: int) -> Rounded:
    """Returns codes and scales with at most the error of the given ones, by coordinate descent.

    Shapes:
        weight (K, m), covariance (K, K), codes (K, m), scales (K / group, m)  ->  codes, scales
    """
    width = len(weight)
    group = width // len(scales)
    codes, steps = codes.copy(), scales.astype(np.float64)
    slope = covariance @ (weight - codes * np.repeat(steps, group, axis=0))  # half the gradient, (K, m)
    inverse = np.divide(1.0, np.diag(covariance), out=np.zeros(width), where=np.diag(covariance) > 0)
    for _ in range(sweeps):
        for first in range(0, width, group):
            index = first // group
            for start, end in _blocks(first, first + group):
                moves = np.zeros((end - start, weight.shape[1]))
                for j in range(start, end):
                    here = slope[j] - covariance[j, start:j] @ moves[: j - start]
                    if inverse[j] == 0:
                        continue
                    new = code_of(codes[j] * steps[index] + here * inverse[j], steps[index], bits)
                    moves[j - start] = (new - codes[j]) * steps[index]
                    codes[j] = new
                slope -= covariance[:, start:end] @ moves
            part = codes[first : first + group]
            gain = (part * slope[first : first + group]).sum(axis=0)
            curve = (part * (covariance[first : first + group, first : first + group] @ part)).sum(axis=0)
            wanted = steps[index] + np.divide(gain, curve, out=np.zeros_like(gain), where=curve > 0)
            change = to_scales(wanted).astype(np.float64) - steps[index]
            change = np.where(change * (change * curve - 2 * gain) < 0, change, 0.0)
            slope -= covariance[:, first : first + group] @ (part * change)
            steps[index] += change
    return codes, steps.astype(np.float16)


def _blocks(first: int, last: int) -> Iterator[tuple[int, int]]:
    for start in range(first, last, _BLOCK):
        yield start, min(start + _BLOCK, last)
