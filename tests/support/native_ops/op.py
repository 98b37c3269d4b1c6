"""One operator of the native library."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from edgefc import generator
from edgefc.layers.common.activations import ACTIVATIONS

BOOKS, FUNCTIONS = list(generator.CODEBOOKS), list(ACTIVATIONS)


@dataclass(frozen=True)
class Op:
    """make(n, m, kind) is a layer of n inputs, kind any number.

    Attributes:
        nmse      the error that float32 may cause, against float64 or the body
        infinite  what gives the outputs for infinite inputs: "body", "matrix" (rows of NaN too), or None: not tested
        int8      whether the kernel can compute with inputs of 8 bits
    """

    name: str
    make: Callable[[int, int, int], nn.Module]
    nmse: float = 1e-10
    infinite: str | None = None
    int8: bool = False
