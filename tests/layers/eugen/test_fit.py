"""The closed-form fit: against numpy's least squares, in batches, where the answer is not unique, and misused."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgefc import EUGenLinear
from edgefc.errors import ShapeError, UsageError
from edgefc.layers.eugen.fit import fit_closed_form
from edgefc.testing import assert_close
from tests.support import eugen_models as eugen
from tests.support import layer_models as models


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Many small products: threads would wait for one another longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def task(rows: int = 400, n: int = 12, m: int = 9) -> tuple[Tensor, Tensor]:
    """Inputs and a trained layer's outputs, after its activation: relu(W x + b)."""
    torch.manual_seed(0)
    x = torch.from_numpy(models.inputs(rows, n, dtype=np.float64))
    with torch.no_grad():
        return x, torch.relu(nn.Linear(n, m, dtype=torch.float64)(x))


def least_squares(layer: EUGenLinear, x: Tensor, y: Tensor) -> Any:
    """numpy's answer: the fitted outputs, from the paper's features and a column of ones."""
    f = eugen.features(layer, x.numpy())
    if layer.bias is not None:
        f = np.concatenate([f, np.ones((len(f), 1))], 1)
    return f @ np.linalg.lstsq(f, y.numpy(), rcond=None)[0]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("projection", ["random", "orthogonal", "trained"])
def test_it_reaches_the_least_squares_residual(projection: str, order: int, bias: bool) -> None:
    layer = EUGenLinear(12, 9, bias, features=30, order=order, projection=projection, dtype=torch.float64)
    x, y = task()
    before = layer.matrix().clone()
    fit_closed_form(layer, [(x, y)])
    fitted, best = layer(x).detach().numpy(), least_squares(layer, x, y)
    assert_close(fitted, best, nmse=1e-14, what="fitted")
    assert np.square(fitted - y.numpy()).sum() <= (1 + 1e-9) * np.square(best - y.numpy()).sum()
    assert torch.equal(layer.matrix(), before)
    assert np.square(fitted - y.numpy()).mean() < 0.5 * y.var().item()


def test_batches_add_up() -> None:
    """Of any sizes and leading axes, from a generator, empty ones too."""
    whole, parts = (EUGenLinear(12, 9, features=20, seed=0, dtype=torch.float64) for _ in range(2))
    x, y = task()
    fit_closed_form(whole, [(x, y)])
    cuts = ((x[:50], y[:50]), (x[50:50], y[50:50]), (x[50:350].view(3, 100, 12), y[50:350].view(3, 100, 9)))
    fit_closed_form(parts, (batch for batch in (*cuts, (x[350:], y[350:]))))
    assert_close(parts.weight, whole.weight, nmse=1e-18, what="weight")


def test_a_layer_that_made_the_outputs_comes_back() -> None:
    torch.manual_seed(0)
    original = EUGenLinear(12, 9, features=20, order=2, seed=0, dtype=torch.float64)
    nn.init.normal_(original.bias)
    fitted = EUGenLinear(12, 9, features=20, order=2, seed=0, dtype=torch.float64)
    x, _ = task()
    fit_closed_form(fitted, [(x, original(x))], ridge=0)
    assert_close(fitted.weight, original.weight, nmse=1e-18, what="weight")
    assert_close(fitted.bias, original.bias, nmse=1e-16, what="bias")


@pytest.mark.parametrize("ridge", [0.0, 1e-10])
def test_fewer_rows_than_features_and_dead_features(ridge: float) -> None:
    """Singular systems: the outputs are met where they can be, and nothing is infinite."""
    layer = EUGenLinear(12, 9, features=100, norm=False, dtype=torch.float64)
    x, y = task(rows=30)
    fit_closed_form(layer, [(x, y)], ridge=ridge)
    assert layer.weight.isfinite().all()
    assert_close(layer(x), y, nmse=1e-10, what="interpolated")
    dead = EUGenLinear(12, 9, features=10, projection="trained", dtype=torch.float64)
    dead.projection.data[:3] = 0
    fit_closed_form(dead, [task()], ridge=ridge)
    assert dead.weight.isfinite().all()
    assert not dead.weight[:, :3].any()


def test_the_ridge_follows_the_scale_and_shrinks() -> None:
    """(S + ridge diag S)^-1 f^T y, written out in numpy; another scale of x gives the same outputs."""
    layer, x, y = EUGenLinear(12, 9, False, features=20, dtype=torch.float64), *task()
    fit_closed_form(layer, [(x, y)], ridge=0.1)
    f = eugen.features(layer, x.numpy())
    square = f.T @ f
    exact = np.linalg.solve(square + 0.1 * np.diag(np.diag(square)), f.T @ y.numpy())
    assert_close(layer.weight, exact.T, nmse=1e-20, what="ridge")
    outputs = layer(x).detach()
    fit_closed_form(layer, [(x * 1000, y)], ridge=0.1)
    assert_close(layer(x * 1000), outputs, nmse=1e-16, what="scaled")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_of_fewer_digits_are_fitted_in_float64(dtype: torch.dtype) -> None:
    layer, x, y = EUGenLinear(12, 9, features=20, seed=0, dtype=dtype), *task()
    double = EUGenLinear(12, 9, features=20, seed=0, dtype=torch.float64)
    fit_closed_form(layer, [(x, y)])
    fit_closed_form(double, [(x, y)])
    nmse = 1e-9 if dtype == torch.float32 else 1e-2
    assert layer.weight.dtype == dtype
    assert_close(layer(x.to(dtype)), double(x), nmse=nmse, what="outputs")


def test_tuning_goes_on_from_there() -> None:
    """Fitted, then a few steps of gradient descent on weight and trained projections: the loss falls further."""
    layer, x, y = EUGenLinear(12, 9, features=20, projection="trained", dtype=torch.float64), *task()
    fit_closed_form(layer, [(x, y)])
    optimiser = torch.optim.Adam(layer.parameters(), lr=5e-3)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = nn.functional.huber_loss(layer(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("batches", "options", "error", "said"),
    [
        ([], {}, UsageError, "fit_closed_form() got no rows. Pass batches of inputs and outputs (x, y)."),
        ([(torch.ones(0, 4), torch.ones(0, 3))], {}, UsageError, "fit_closed_form() got no rows."),
        ([(torch.ones(5, 4), torch.ones(4, 3))], {}, ShapeError, "inputs of shape (5, 4), got (4, 3)."),
        ([(torch.ones(5, 4), torch.ones(5, 2))], {}, ShapeError, "expects outputs of shape (5, 3) for"),
        ([(torch.ones(5, 3), torch.ones(5, 3))], {}, ShapeError, "EUGenLinear expects inputs of shape (..., 4)"),
        ([(torch.ones(5, 4), torch.full((5, 3), torch.nan))], {}, UsageError, "got NaN or infinity in a batch"),
        (
            [],
            {"ridge": -1.0},
            UsageError,
            "fit_closed_form() does not support ridge=-1.0. Choose a number of at least 0.",
        ),
    ],
)
def test_misuse_is_named(batches: Any, options: Any, error: Any, said: str) -> None:
    layer = EUGenLinear(4, 3)
    before = layer.weight.clone()
    with pytest.raises(error, match=re.escape(said)):
        fit_closed_form(layer, batches, **options)
    assert torch.equal(layer.weight, before)
