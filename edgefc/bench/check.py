"""Whether a competitor computes what it should: its output beside a float64 product, before it is timed.

The error is |y - reference|^2 / |reference|^2 over all rows of one batch size. The reference of the dense layer and of
its quantised forms is the dense layer's own matrix, that of two thin matrices is their own product, and that of a
structured layer is the dense matrix that it stands for (its forward in float64 where it has no such matrix).
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
"""The largest error of a form that computes in float32, of one with 8-bit numbers, and of one with 4-bit weights."""

_COLUMNS = 1024  # of a matrix at a time in float64
Array = NDArray[Any]


class Check:
    """Inputs of one case: the largest batch, of which smaller ones are the first rows.

    Args:
        threads: of the sessions, as they are timed.
    """

    def __init__(self, n: int, batches: Sequence[int], threads: int) -> None:
        self.batches, self.threads = tuple(batches), threads
        self.x: Array = np.random.default_rng(0).standard_normal((max(batches), n), np.float32)

    def product(self, weights: Sequence[Array], bias: Array) -> Array:
        """The reference of a chain of matrices, each (inputs, outputs), and the bias behind them."""
        y = self.x.astype(np.float64)
        for w in weights:
            parts = [y @ w[:, at : at + _COLUMNS].astype(np.float64) for at in range(0, w.shape[1], _COLUMNS)]
            y = np.concatenate(parts, axis=1)
        return y + bias.astype(np.float64)

    @torch.no_grad()
    def layer(self, layer: nn.Module) -> Array:
        """The reference of a layer."""
        double: Any = copy.deepcopy(layer).double()
        x = torch.from_numpy(self.x).double()
        dense = double.dense() if hasattr(double, "dense") else double
        if not isinstance(dense, Tensor):
            return np.asarray(dense(x))
        y = x @ dense.T
        return np.asarray(y if double.bias is None else y + double.bias)

    def errors(self, model: Model, reference: Array, bound: float) -> tuple[float, ...]:
        """The error of a file at each batch size.

        Raises:
            CheckFailed: one of them is above the bound, or not a number.
        """
        session = Session(model.path, threads=self.threads, **model.settings)
        found = []
        for batch in self.batches:
            (y,) = session.run({session.inputs[0].name: self.x[:batch]}).values()
            error = nmse(y, reference[:batch])
            if not error <= bound:
                raise CheckFailed(
                    f"its output is wrong on this machine: the normalised mean squared error against float64 at batch "
                    f"{batch} is {error:.1e}, above the bound of {bound:.0e}, so it was not timed."
                )
            found.append(error)
        return tuple(found)
