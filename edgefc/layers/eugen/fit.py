"""Fits the weight of an EUGen layer in closed form to the inputs and outputs of the layer that it replaces.

Source: EUGens (see linear.py), layer-wise knowledge transfer without gradients: W^T = (f^T f)^-1 f^T y, the
pseudo-inverse if f^T f is singular, and a ridge as a variant. Our additions: a column of ones for the bias, sums over
batches in float64, and columns normalised before the solution.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError, UsageError
from edgefc.layers.eugen.linear import EUGenLinear


@torch.no_grad()
def fit_closed_form(layer: EUGenLinear, batches: Iterable[tuple[Tensor, Tensor]], *, ridge: float = 1e-10) -> None:
    """Sets weight and bias to the least-squares solution of layer(x) = y over all batches (x, y). Does not change G.

    The memory does not depend on the number of batches: the sums of f(x)^T f(x) and f(x)^T y have (k m)^2 + k m l
    values. `ridge` is relative to the squared norm of each column, so it does not depend on the scale of the data. The
    default only keeps the solution finite.

    Shapes:
        x (..., d)   y (..., l), with the same leading axes

    Raises:
        UsageError: no rows, NaN or infinite values, or a ridge below 0.
        ShapeError: x or y do not match the sizes of the layer.
    """
    if not ridge >= 0:
        raise UsageError(f"fit_closed_form() does not support ridge={ridge!r}. Choose a number of at least 0.")
    columns = layer.order * layer.features + (layer.bias is not None)
    device = layer.weight.device
    square = torch.zeros(columns, columns, dtype=torch.float64, device=device)
    product = torch.zeros(columns, layer.out_features, dtype=torch.float64, device=device)
    rows = 0
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise UsageError(
                f"fit_closed_form() expects pairs (x, y) of inputs and outputs, got a {type(batch).__name__}. "
                "Pass a sequence of pairs, such as [(x, y)]."
            )
        x, y = batch
        f, target = _columns(layer, x, y)
        square += f.T @ f
        product += f.T @ target
        rows += len(f)
    if rows == 0:
        raise UsageError("fit_closed_form() got no rows. Pass batches of inputs and outputs (x, y).")
    if not (square.isfinite().all() and product.isfinite().all()):
        raise UsageError("fit_closed_form() got NaN or infinity in a batch. Check the inputs and outputs.")
    solution = _solve(square, product, ridge)
    layer.weight.copy_(solution[: layer.weight.shape[1]].T)
    if layer.bias is not None:
        layer.bias.copy_(solution[-1])


def _columns(layer: EUGenLinear, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns f(x), with a column of ones appended for the bias, and y, both as float64 rows."""
    f = layer.random_features(x.to(layer.weight))
    if y.shape != (*x.shape[:-1], layer.out_features):
        raise ShapeError(
            f"fit_closed_form() expects outputs of shape {(*x.shape[:-1], layer.out_features)} for inputs of shape "
            f"{tuple(x.shape)}, got {tuple(y.shape)}."
        )
    f = f.reshape(-1, f.shape[-1]).double()
    if layer.bias is not None:
        f = nn.functional.pad(f, (0, 1), value=1.0)
    return f, y.reshape(-1, layer.out_features).to(f)


def _solve(square: Tensor, product: Tensor, ridge: float) -> Tensor:
    """Solves (square + ridge diag(square)) s = product. Returns the s of least norm if the matrix is singular."""
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
