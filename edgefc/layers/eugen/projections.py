"""The projections of an EUGen layer: where their numbers come from, and what is made of their outputs.

Letters: d inputs, e entries behind them, m features, k order, P projections: k when they are shared, k (k + 1) / 2
when each block has its own. The P projections stand in one matrix G, (P m, d + e): block i of those that are not
shared takes the i projections from i (i - 1) / 2 on.
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
    """m and k as plain ints.

    Raises:
        ShapeError: not whole numbers from 1 to 2**31 - 1, or an order above MAX_ORDER.
    """
    if is_size(features) and is_size(order) and order <= MAX_ORDER:
        return operator.index(features), operator.index(order)
    raise ShapeError(
        f"EUGenLinear cannot have features={features!r} at order={order!r}. "
        f"Choose whole numbers from 1 to 2**31 - 1, an order up to {MAX_ORDER}."
    )


def kind(projection: str, distribution: str) -> str:
    """The kind of projections, where there are such.

    Raises:
        UsageError: no such kind, or orthogonal ones that are not Gaussian.
    """
    if projection not in KINDS:
        raise UsageError(f"no projection {projection!r}. Choose one of: {', '.join(KINDS)}.")
    if projection == "orthogonal" and distribution != "gaussian":
        raise UsageError(
            f"EUGenLinear has no orthogonal projections of distribution={distribution!r}. "
            "Leave the distribution at 'gaussian', or choose random projections."
        )
    return projection


def count(order: int, shared: bool) -> int:
    """P: how many projections of m rows a layer of that order has."""
    return order if shared else order * (order + 1) // 2


def extend(x: Tensor, *, one: bool, norm: bool) -> Tensor:
    """x, then 1 where a bias is absorbed, then the Euclidean norm of all that, each as asked for: (..., d + e).

    At zero, where the norm has no gradient, torch takes 0.
    """
    if one:
        x = torch.cat([x, x.new_ones(*x.shape[:-1], 1)], -1)
    if norm:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        x = torch.cat([x, length.to(x.dtype)], -1)
    return x


def scale(inputs: int, *, norm: bool) -> float:
    """The size of G's entries with which inputs of variance 1 give projections of variance 1, over the draw of G.

    `inputs` counts the entries of x, and the 1 behind them; their norm, as large as all of them, counts again.
    """
    return 1 / math.sqrt(inputs * (2 if norm else 1))


def products(u: Tensor, features: int, order: int, shared: bool) -> Tensor:
    """The Hadamard products of all blocks, one behind the other: (..., P m) -> (..., k m).

    Shared projections make running products: block i is block i - 1 times projection i.
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
    """Gaussian orthogonal rows, entries of variance 1: (rows, width).

    The `features` rows of one projection are orthogonal; more rows than columns are stacked from independent blocks
    of `width` rows (our reconstruction). Each block is the Q of a seeded Gaussian matrix, whose own row lengths,
    which do not depend on directions, make the lengths chi-distributed. Decompositions differ in the last bits from
    machine to machine: that is why these rows are stored and not regenerated.
    """
    drawn = seeded.matrix(seed, rows, width, "gaussian", dtype=torch.float64, device=device)
    blocks = [block for projection in torch.split(drawn, features) for block in torch.split(projection, width)]
    return torch.cat([_orthogonalised(block) for block in blocks]).to(dtype)


def _orthogonalised(rows: Tensor) -> Tensor:
    """Orthogonal rows, each as long as it was, evenly distributed over all directions: (r, w), r <= w."""
    q, r = torch.linalg.qr(rows.T)
    sign = torch.where(r.diagonal() < 0, -1.0, 1.0).to(q.dtype)
    turned: Tensor = (q * sign).T * torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return turned
