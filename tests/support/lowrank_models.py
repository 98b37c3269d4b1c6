"""For the tests of LowRankLinear: what it means, written again in numpy, in float64."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefc import LowRankLinear
from tests.support import layer_models as models
from tests.support.layer_models import numbers


def make(*args: Any, **options: Any) -> Any:
    return models.randomise(LowRankLinear(*args, **options))  # type: ignore[type-var]


def expected(layer: Any, x: NDArray[Any]) -> NDArray[np.float64]:
    """up (down x) + bias, by two sums."""
    inner = np.einsum("rn,...n->...r", numbers(layer.down), x.astype(np.float64))
    y: NDArray[np.float64] = np.einsum("mr,...r->...m", numbers(layer.up), inner)
    return y if layer.bias is None else y + numbers(layer.bias)
