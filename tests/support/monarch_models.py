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
    """L P R, the first m rows and n columns. L and R are full matrices, and P is the order of the rows of R."""
    first, second = numbers(layer.first), numbers(layer.second)
    (b, w, p), o = first.shape, second.shape[1]
    right, left, order = np.zeros((b * w, b * p)), np.zeros((b * o, b * w)), np.zeros(b * w, int)
    for k in range(b):
        right[k * w : (k + 1) * w, k * p : (k + 1) * p] = first[k]
        left[k * o : (k + 1) * o, k * w : (k + 1) * w] = second[k]
    for j in range(b):
        for t in range(w):
            order[t * b + j] = j * w + t
    result: NDArray[np.float64] = (left @ right[order])[: layer.out_features, : layer.in_features]
    return result


def expected(layer: Any, x: NDArray[Any]) -> NDArray[np.float64]:
    y: NDArray[np.float64] = x.astype(np.float64) @ matrix(layer).T
    return y if layer.bias is None else y + numbers(layer.bias)
