"""The projections of an EUGen layer: their values, and the products of their outputs.

Symbols: d inputs, e entries appended to them, m features, k order, P projections: k if they are shared, k (k + 1) / 2
if each block has its own. One matrix G, (P m, d + e), stores all projections. If they are not shared, block i uses the
i projections that start at index i (i - 1) / 2.
"""

import math
import operator

import torch
from torch import Tensor

from edgefc.errors import ShapeError, UsageError
from edgefc.layers.common import seeded
from edgefc.layers.common.facts import MAX_ORDER
from edgefc.layers.common.onnx_node import is_size

KINDS = ("random", "orthogonal", "trained")


def features_and_order(features: int, order: int) -> tuple[int, int]:
    """Returns m and k as ints.

    Raises:
        ShapeError: not integers from 1 to 2**31 - 1, or an order above MAX_ORDER.
    """
    if is_size(features) and is_size(order) and order <= MAX_ORDER:
        return operator.index(features), operator.index(order)
    raise ShapeError(
        f"EUGenLinear does not support features={features!r} with order={order!r}. "
        f"Choose features from 1 to 2**31 - 1 and an order from 1 to {MAX_ORDER}."
    )


def kind(projection: str, distribution: str) -> str:
    """Checks the kind of projections.

    Raises:
        UsageError: an unknown kind, or orthogonal projections that are not Gaussian.
    """
    if projection not in KINDS:
        raise UsageError(f"unknown projection {projection!r}. Choose one of: {', '.join(KINDS)}.")
    if projection == "orthogonal" and distribution != "gaussian":
        raise UsageError(
            f"EUGenLinear does not support orthogonal projections with distribution={distribution!r}. "
            "Use distribution='gaussian', or projection='random'."
        )
    return projection


def count(order: int, shared: bool) -> int:
    """Returns P, the number of projections of m rows in a layer of this order."""
    return order if shared else order * (order + 1) // 2


def extend(x: Tensor, *, one: bool, norm: bool) -> Tensor:
    """Appends to x the constant 1 (`one`) and the Euclidean norm of the result (`norm`): (..., d + e).

    At zero the norm has no gradient, and torch defines it as 0.
    """
    if one:
        x = torch.cat([x, x.new_ones(*x.shape[:-1], 1)], -1)
    if norm:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        x = torch.cat([x, length.to(x.dtype)], -1)
    return x


def scale(inputs: int, *, norm: bool) -> float:
    """Returns the standard deviation of the entries of G that gives projections variance 1 for inputs of variance 1.

    The variance is over the draws of G. `inputs` counts the entries of x, and the 1 that is appended. Their norm
    doubles the sum of squares.
    """
    return 1 / math.sqrt(inputs * (2 if norm else 1))


def products(u: Tensor, features: int, order: int, shared: bool) -> Tensor:
    """Returns the concatenated Hadamard products of all blocks: (..., P m) -> (..., k m).

    With shared projections the products are cumulative: block i is block i - 1 times projection i.
    """
    z = torch.split(u, features, -1)
    blocks = [z[0]]
    for i in range(2, order + 1):
        if shared:
            blocks.append(blocks[-1] * z[i - 1])
        else:
            start = count(i - 1, shared)
            block = z[start]
            for factor in z[start + 1 : start + i]:
                block = block * factor
            blocks.append(block)
    return torch.cat(blocks, -1) if order > 1 else z[0]


@torch.no_grad()
def orthogonal(
    seed: int | Tensor, rows: int, features: int, width: int, *, dtype: torch.dtype, device: torch.device | str
) -> Tensor:
    """Returns Gaussian orthogonal rows with entries of variance 1: (rows, width).

    The `features` rows of one projection are orthogonal. If there are more rows than columns, independent blocks of
    `width` rows are stacked (our reconstruction). Each block is the Q of a seeded Gaussian matrix, scaled by the norms
    of its rows. These norms are independent of the directions, so the norms of the result are chi-distributed. The last
    bits of a QR depend on the machine, so the layer stores these rows instead of regenerating them.
    """
    drawn = seeded.matrix(seed, rows, width, "gaussian", dtype=torch.float64, device=device)
    blocks = [block for projection in torch.split(drawn, features) for block in torch.split(projection, width)]
    return torch.cat([_orthogonalised(block) for block in blocks]).to(dtype)


def _orthogonalised(rows: Tensor) -> Tensor:
    """Returns orthogonal rows (r, w), r <= w, uniformly distributed over all directions. Keeps the norm of each row."""
    q, r = torch.linalg.qr(rows.T)
    sign = torch.where(r.diagonal() < 0, -1.0, 1.0).to(q.dtype)
    scaled: Tensor = (q * sign).T * torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return scaled
