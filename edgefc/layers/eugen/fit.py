"""The weight of an EUGen layer in closed form, from the inputs and outputs of the layer that it replaces.

Source: EUGens (see eugen.py), layer-wise knowledge transfer without gradients: W^T = (f^T f)^-1 f^T y, the
pseudo-inverse where that is singular, a ridge as the variant. Ours: a column of ones for the bias, sums over batches
in float64, columns brought to one length before the solution.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError, UsageError
from edgefc.layers.eugen.linear import EUGenLinear


@torch.no_grad()
def fit_closed_form(layer: EUGenLinear, batches: Iterable[tuple[Tensor, Tensor]], *, ridge: float = 1e-10) -> None:
    """Set weight and bias to the least-squares solution of layer(x) = y over all batches (x, y); G stays.

    Two sums are kept, of f(x)^T f(x) and f(x)^T y: (k m)^2 + k m l numbers, however many the batches. The ridge adds
    that share of each column's own square, so it does not depend on scales; the default only keeps the solution finite.

    Shapes:
        x (..., d)   y (..., l), with the same leading axes

    Raises:
        UsageError: no rows at all, numbers that are not finite, or a ridge below 0.
        ShapeError: x or y of other sizes than the layer's.
    """
    if not ridge >= 0:
        raise UsageError(f"fit_closed_form() cannot use ridge={ridge!r}. Choose a number from 0.")
    columns = layer.order * layer.features + (layer.bias is not None)
    device = layer.weight.device
    square = torch.zeros(columns, columns, dtype=torch.float64, device=device)
    product = torch.zeros(columns, layer.out_features, dtype=torch.float64, device=device)
    rows = 0
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise UsageError(
                f"fit_closed_form() cannot read a {type(batch).__name__} as inputs and outputs. "
                "Give a sequence of pairs (x, y), such as [(x, y)]."
            )
        x, y = batch
        f, target = _columns(layer, x, y)
        square += f.T @ f
        product += f.T @ target
        rows += len(f)
    if rows == 0:
        raise UsageError("fit_closed_form() was given no rows. Give batches of inputs and outputs (x, y).")
    if not (square.isfinite().all() and product.isfinite().all()):
        raise UsageError("fit_closed_form() met numbers that are not finite. Look for them in the inputs and outputs.")
    solution = _solve(square, product, ridge)
    layer.weight.copy_(solution[: layer.weight.shape[1]].T)
    if layer.bias is not None:
        layer.bias.copy_(solution[-1])


def _columns(layer: EUGenLinear, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """f(x), with ones behind it for the bias, and y, both as float64 rows."""
    f = layer.random_features(x.to(layer.weight))
    if y.shape != (*x.shape[:-1], layer.out_features):
        raise ShapeError(
            f"fit_closed_form() cannot pair inputs of shape {tuple(x.shape)} with outputs of shape {tuple(y.shape)}. "
            f"Give outputs of shape {(*x.shape[:-1], layer.out_features)}."
        )
    f = f.reshape(-1, f.shape[-1]).double()
    if layer.bias is not None:
        f = nn.functional.pad(f, (0, 1), value=1.0)
    return f, y.reshape(-1, layer.out_features).to(f)


def _solve(square: Tensor, product: Tensor, ridge: float) -> Tensor:
    """The solution of (square + ridge diag(square)) s = product; the shortest one where there are many."""
    size = square.diagonal().sqrt()
    size = torch.where(size > 0, size, 1.0)  # columns of zeros stay zeros
    scaled = square / size / size[:, None]
    scaled.diagonal().mul_(1 + ridge)
    factor, failed = torch.linalg.cholesky_ex(scaled)
    right = product / size[:, None]
    if bool(failed) or not factor.isfinite().all():
        solution: Tensor = torch.linalg.pinv(scaled, hermitian=True) @ right
    else:
        solution = torch.cholesky_solve(right, factor)
    return solution / size[:, None]
