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
        weight (K, m), covariance (K, K) positive definite, codes (K, m), scales (K / group, m)  ->  codes, scales
    """
    width = len(weight)
    group = width // len(scales)
    codes, steps = codes.copy(), scales.astype(np.float64)
    slope = covariance @ (weight - codes * np.repeat(steps, group, axis=0))  # half the gradient, (K, m)
    inverse = 1 / np.diag(covariance)
    for _ in range(sweeps):
        for index, first in enumerate(range(0, width, group)):
            inside = slice(first, first + group)
            square, near, before = covariance[inside, inside], slope[inside].copy(), codes[inside] * steps[index]
            part = codes[inside]  # a view: it changes codes
            _move_codes(part, near, square, steps[index], inverse[inside], bits)
            steps[index] = _moved_scales(part, near, square, steps[index])
            slope -= covariance[:, inside] @ (part * steps[index] - before)
    return codes, steps.astype(np.float16)


def _move_codes(codes: Array, slope: Array, square: Array, scale: Array, inverse: Array, bits: int) -> None:
    """Moves the codes of a group (g, m) in place, each to its best value given the others, and updates the slope."""
    for start, end in _blocks(0, len(codes)):
        moves = np.zeros((end - start, codes.shape[1]))
        for j in range(start, end):
            here = slope[j] - square[j, start:j] @ moves[: j - start]
            new = code_of(codes[j] * scale + here * inverse[j], scale, bits)
            moves[j - start] = (new - codes[j]) * scale
            codes[j] = new
        slope -= square[:, start:end] @ moves


def _moved_scales(codes: Array, slope: Array, square: Array, scale: Array) -> Array:
    """Returns the best scales of a group (m,) in float16, or the old ones where rounding makes those better."""
    gain, curve = (codes * slope).sum(axis=0), (codes * (square @ codes)).sum(axis=0)
    wanted = scale + np.divide(gain, curve, out=np.zeros_like(gain), where=curve > 0)
    new = to_scales(wanted).astype(np.float64)
    change = new - scale
    return np.where(change * (change * curve - 2 * gain) < 0, new, scale)


def _blocks(first: int, last: int) -> Iterator[tuple[int, int]]:
    for start in range(first, last, _BLOCK):
        yield start, min(start + _BLOCK, last)
