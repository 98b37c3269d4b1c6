"""For the tests of EUGen: the paper's formula again in numpy, in float64, with every product written out.

Shared with edgefc.layers is only the seeded matrix in numpy, which tests/generator/ holds to its specification.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefc import EUGenLinear, generator

Array = NDArray[np.float64]

_ERF = np.vectorize(math.erf, otypes=[np.float64])

PHI: dict[str, Callable[[Array], Array]] = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "gelu": lambda z: z * (1 + _ERF(z / math.sqrt(2))) / 2,
    "gelu_tanh": lambda z: z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softplus": lambda z: np.logaddexp(0, z),
    "sin": np.sin,
}


def projections(layer: EUGenLinear) -> list[list[Array]]:
    """G_ij of block i (counted from 1) and factor j <= i as [i - 1][j - 1], each (m, d + e)."""
    m, k = layer.features, layer.order
    ones, norms = int(layer.one), int(layer.norm)
    several = k if layer.shared else k * (k + 1) // 2
    width = layer.in_features + ones + norms
    if layer.projection is not None:
        g = layer.projection.detach().double().numpy()
        assert g.shape == (several * m, width)
    else:
        codes = generator.matrix(layer.seed, several * m, width, layer.distribution).astype(np.float64)
        g = codes / np.sqrt((layer.in_features + ones) * (1 + norms))
    single = [g[p * m : (p + 1) * m] for p in range(several)]
    if layer.shared:
        return [single[:i] for i in range(1, k + 1)]
    rows = iter(single)
    return [[next(rows) for _ in range(i)] for i in range(1, k + 1)]


def extended(layer: EUGenLinear, x: NDArray[Any]) -> Array:
    """x+ = [x ; |x|], where x may have a 1 behind it already."""
    x = x.astype(np.float64)
    if layer.one:
        x = np.concatenate([x, np.ones((*x.shape[:-1], 1))], -1)
    if layer.norm:
        x = np.concatenate([x, np.sqrt((x**2).sum(-1, keepdims=True))], -1)
    return x


def features(layer: EUGenLinear, x: NDArray[Any]) -> Array:
    """Phi(concatenation over i of the product over j <= i of G_ij x+)."""
    plus = extended(layer, x)
    blocks = [np.prod([plus @ g.T for g in row], axis=0) for row in projections(layer)]
    return PHI[layer.activation](np.concatenate(blocks, -1))


def expected(layer: EUGenLinear, x: NDArray[Any]) -> Array:
    y = features(layer, x) @ layer.weight.detach().double().numpy().T
    return y if layer.bias is None else y + layer.bias.detach().double().numpy()
