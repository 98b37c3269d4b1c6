"""The base class of what the fits return: the parameters of a layer, as numpy arrays."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Half = NDArray[np.float16]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted(ABC):
    """A fitted layer. Each kind adds its parameters, in the layout of the torch layer that holds them.

    Attributes:
        bias    (m,) float64, corrected for the mean of the inputs; None for a layer without a bias
    """

    bias: Array | None = None

    @abstractmethod
    def dense(self) -> Array:
        """Returns the matrix that the layer computes, (m, n) float64."""

    @property
    @abstractmethod
    def stored_bits(self) -> int:
        """The bits that the matrix takes in a file, without the bias. Float64 parameters count as float32."""
