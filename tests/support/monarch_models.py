"""For the tests of MonarchLinear: what it means, written again in numpy, in float64, value by value."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefc import MonarchLinear
from tests.support import layer_models as models
from tests.support.layer_models import numbers


def make(*args: Any, **options: Any) -> Any:
    return models.randomise(MonarchLinear(*args, **options))  # type: ignore[type-var]


def matrix(layer: Any) -> NDArray[np.float64]:
    """L P R, each of the three as a full matrix; its first m rows and n columns."""
    first, second = numbers(layer.first), numbers(layer.second)
    (b, w, p), o = first.shape, second.shape[1]
    right, left, permutation = np.zeros((b * w, b * p)), np.zeros((b * o, b * w)), np.zeros((b * w, b * w))
    for k in range(b):
        right[k * w : (k + 1) * w, k * p : (k + 1) * p] = first[k]
        left[k * o : (k + 1) * o, k * w : (k + 1) * w] = second[k]
    for j in range(b):
        for t in range(w):
            permutation[t * b + j, j * w + t] = 1
    result: NDArray[np.float64] = (left @ permutation @ right)[: layer.out_features, : layer.in_features]
    return result


def expected(layer: Any, x: NDArray[Any]) -> NDArray[np.float64]:
    y: NDArray[np.float64] = x.astype(np.float64) @ matrix(layer).T
    return y if layer.bias is None else y + numbers(layer.bias)
