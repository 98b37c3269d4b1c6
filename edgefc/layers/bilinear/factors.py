"""Splits the sizes of bilinear layers into d1 x d2, and initialises their factors.

Source: Yu, Gao, Zhou, Zhang, "Parameter-Efficient Deep Neural Networks With Bilinear Projections", IEEE TNNLS 2021,
https://arxiv.org/abs/2011.01391, and the authors' code, https://github.com/yutao1008/Bi-DNNs.

From the authors' code: d1 is the largest divisor of the size up to its square root, d2 = size / d1. Each factor is
initialised by glorot_uniform. Our reconstructions: if d2 / d1 is above LONGEST, the split saves little or nothing (a
prime gives 1 x d), so the size is padded to the next size whose ratio is at most LONGEST; the initial factors are
smaller if there are several terms.
"""

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError
from edgefc.fitting.kronecker import LONGEST as LONGEST
from edgefc.fitting.kronecker import factors as factors
from edgefc.layers.bilinear import kronecker
from edgefc.layers.common.onnx_node import is_size


def choose_factors(layer: str, name: str, size: int, given: Sequence[int] | None) -> tuple[int, int]:
    """Checks the factors that the user gave for `size` in the argument `name`. The default is factors(size).

    Raises:
        ShapeError: not two integers whose product is at least `size`.
    """
    if given is None:
        return factors(size)
    pair = tuple(given) if isinstance(given, Sequence) else ()
    if len(pair) == 2 and all(is_size(d) for d in pair) and pair[0] * pair[1] >= size:
        return operator.index(pair[0]), operator.index(pair[1])
    d1, d2 = factors(size)
    raise ShapeError(
        f"{layer} does not support {name}={given!r} for size {size}. "
        f"Choose two positive integers whose product is at least {size}, such as ({d1}, {d2})."
    )


class Factored(nn.Module):
    """What layers with a sum of Kronecker products as weight share; they set terms, in_factors and out_factors first.

    Attributes: left (T, d1, u1), right (T, d2, u2), and but for embeddings bias (outputs,) or None.
    """

    terms: int
    in_factors: tuple[int, int]
    out_factors: tuple[int, int]
    bias: nn.Parameter | None

    def _make_factors(self, **where: Any) -> None:
        """Make left and right, not initialised; `where` is device and dtype."""
        (d1, d2), (u1, u2) = self.in_factors, self.out_factors
        self.left = nn.Parameter(torch.empty(self.terms, d1, u1, **where))
        self.right = nn.Parameter(torch.empty(self.terms, d2, u2, **where))

    def reset_parameters(self) -> None:
        """glorot_uniform for each factor, several terms smaller so that the variance of their sum stays; bias zero."""
        for factor in (self.left, self.right):
            glorot_uniform_(factor, terms=self.terms)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _fit(self, matrix: Tensor) -> None:
        """Copy the factors nearest to a trained matrix (inputs, outputs)."""
        left, right = kronecker.nearest(matrix, self.in_factors, self.out_factors, self.terms)
        self.left.copy_(left)
        self.right.copy_(right)


def check_terms(layer: str, terms: int) -> int:
    """Returns `terms` as an int.

    Raises:
        ShapeError: not an integer of at least 1.
    """
    if is_size(terms):
        return operator.index(terms)
    raise ShapeError(f"{layer} does not support terms={terms!r}. Choose an integer from 1 to 2**31 - 1.")


@torch.no_grad()
def glorot_uniform_(factor: Tensor, *, terms: int = 1) -> Tensor:
    """Fills (..., d, u) with U(-a, a), a = sqrt(6 / (d + u)), as Keras does.

    With several terms, a is divided by terms ** (1/4), so that the variance of the sum does not depend on `terms`.
    """
    *_, d, u = factor.shape
    bound = math.sqrt(6 / (d + u)) * terms**-0.25
    return factor.uniform_(-bound, bound)
