"""Compare the output of a competitor with a float64 product before it is timed.

The error is |y - reference|^2 / |reference|^2 over all rows of one batch size. The reference is computed in float64:

    dense and quantised layers   the product with the dense layer's matrix
    low rank                     the product with its two matrices
    structured layer             the product with its dense() matrix; its forward if it has no dense()
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc.errors import CheckFailed
from edgefc.export.verifying.measures import nmse
from edgefc.runtime import Model, Session

FLOAT32, INT8, INT4 = 1e-6, 1e-3, 3e-2
"""The largest accepted errors: for float32, for 8-bit numbers, and for 4-bit weights."""

_COLUMNS = 1024  # columns of a matrix that are converted to float64 at a time
Array = NDArray[Any]


class Check:
    """The inputs of one case. They are those of the largest batch; a smaller batch uses the first rows.

    Args:
        threads: number of threads of the sessions, the same as for timing.
    """

    def __init__(self, n: int, batches: Sequence[int], threads: int) -> None:
        self.batches, self.threads = tuple(batches), threads
        self.x: Array = np.random.default_rng(0).standard_normal((max(batches), n), np.float32)

    def product(self, weights: Sequence[Array], bias: Array) -> Array:
        """The reference output, shape (batch, m), of a chain of matrices, each (inputs, outputs), and a bias (m,)."""
        y = self.x.astype(np.float64)
        for w in weights:
            parts = [y @ w[:, at : at + _COLUMNS].astype(np.float64) for at in range(0, w.shape[1], _COLUMNS)]
            y = np.concatenate(parts, axis=1)
        return y + bias.astype(np.float64)

    @torch.no_grad()
    def layer(self, layer: nn.Module) -> Array:
        """The reference output of a structured layer, shape (batch, m)."""
        double: Any = copy.deepcopy(layer).double()
        x = torch.from_numpy(self.x).double()
        dense = double.dense() if hasattr(double, "dense") else double
        if not isinstance(dense, Tensor):
            return np.asarray(dense(x))
        y = x @ dense.T
        return np.asarray(y if double.bias is None else y + double.bias)

    def errors(self, model: Model, reference: Array, bound: float) -> tuple[float, ...]:
        """The error of a model file at each batch size.

        Raises:
            CheckFailed: an error is above the bound, or NaN.
        """
        session = Session(model.path, threads=self.threads, **model.settings)
        errors = []
        for batch in self.batches:
            (y,) = session.run({session.inputs[0].name: self.x[:batch]}).values()
            error = nmse(y, reference[:batch])
            if not error <= bound:
                raise CheckFailed(
                    f"its output is wrong on this machine: the normalised mean squared error against float64 at batch "
                    f"{batch} is {error:.1e}, above the bound of {bound:.0e}, so it was not timed."
                )
            errors.append(error)
        return tuple(errors)
