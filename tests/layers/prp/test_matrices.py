"""The kinds of P that are no codebook, and the low-rank path: what is stored, what is orthogonal, what it costs.

What all kinds keep is in test_prp.py.
"""

import copy
import io
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgefc import PRPLinear, generator
from edgefc.errors import ShapeError
from edgefc.layers.common import hadamard
from edgefc.layers.prp import matrices
from edgefc.testing import assert_close
from tests.support import layer_models as models

SQUARE_AND_OBLONG = [(1, 1), (2, 2), (7, 7), (64, 64), (61, 20), (20, 61), (1, 5), (5, 1)]


def entries(layer: PRPLinear) -> Any:
    """P, read off the layer with scales of one."""
    nn.init.ones_(layer.in_scale)
    nn.init.ones_(layer.out_scale)
    return layer.dense().double().numpy()


# ---- orthogonal


@pytest.mark.parametrize(("n", "m"), SQUARE_AND_OBLONG)
def test_orthogonal_is_orthogonal_with_entries_of_variance_1_over_n(n: int, m: int) -> None:
    """P P^T = I for m <= n; for more outputs P^T P = (m/n) I, so that the mean square of an entry is 1/n in both."""
    p = entries(PRPLinear(n, m, distribution="orthogonal", seed=4, dtype=torch.float64))
    gram, identity = (p @ p.T, np.eye(m)) if m <= n else (p.T @ p * n / m, np.eye(n))
    np.testing.assert_allclose(gram, identity, atol=1e-13)
    assert np.square(p).mean() * n == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(12, 12), (20, 7), (7, 20)])
def test_orthogonal_is_gram_and_schmidt_of_the_gaussian_matrix(n: int, m: int) -> None:
    """Row after row of the seeded matrix (column after column for m > n), less what the earlier ones hold of it.

    A positive diagonal of R is exactly that: no sign is left to the library.
    """
    normal = generator.matrix(4, m, n, "gaussian").astype(np.float64)
    rows = normal if m <= n else normal.T
    basis: list[Any] = []
    for row in rows:
        rest = row - sum((row @ b) * b for b in basis)
        basis.append(rest / np.linalg.norm(rest))
    expected = np.array(basis) if m <= n else np.array(basis).T * np.sqrt(m / n)
    layer = PRPLinear(n, m, distribution="orthogonal", seed=4, dtype=torch.float64)
    assert_close(entries(layer), expected, nmse=1e-22, what="Gram and Schmidt")


def test_orthogonal_travels_in_the_state_dict() -> None:
    """A layer of another seed that loads it answers alike: the file, not the seed, is the matrix."""
    layer, other = (PRPLinear(20, 12, distribution="orthogonal", seed=seed) for seed in (1, 2))
    x = torch.randn(3, 20)
    assert [*models.weights(layer)] == ["in_scale", "out_scale", "bias", "projection"]
    assert [*dict(layer.named_parameters())] == ["in_scale", "out_scale", "bias"]
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


def test_orthogonal_can_be_made_later() -> None:
    """On the meta device nothing is computed; loading fills the layer, and so does reset_parameters()."""
    layer = PRPLinear(20, 12, distribution="orthogonal", seed=1)
    empty = PRPLinear(20, 12, distribution="orthogonal", seed=1, device="meta")
    loaded = copy.deepcopy(empty)
    loaded.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(loaded.dense(), layer.dense())
    again = empty.to_empty(device="cpu")
    again.reset_parameters()
    assert again.projection is not None and layer.projection is not None
    assert torch.equal(again.projection, layer.projection)


# ---- hadamard


@pytest.mark.parametrize("length", [1, 2, 8, 64])
def test_the_transform_is_the_sign_of_common_digits(length: int) -> None:
    by_digits = [[(-1) ** (i & j).bit_count() for j in range(length)] for i in range(length)]
    eye = torch.eye(length, dtype=torch.float64)
    assert hadamard.matrix(length, dtype=torch.float64, device="cpu").tolist() == by_digits
    assert hadamard.transform(eye).tolist() == by_digits


@pytest.mark.parametrize("n", [1, 2, 16, 128])
def test_hadamard_of_a_power_of_two_is_orthogonal(n: int) -> None:
    p = entries(PRPLinear(n, n, distribution="hadamard", seed=4, dtype=torch.float64))
    np.testing.assert_allclose(p @ p.T, np.eye(n), atol=1e-14)


@pytest.mark.parametrize(("n", "m"), [(128, 128), (100, 100), (20, 100), (100, 20)])
def test_hadamard_entries_have_variance_1_over_n(n: int, m: int) -> None:
    layers = [PRPLinear(n, m, distribution="hadamard", seed=seed, dtype=torch.float64) for seed in range(40)]
    power = np.mean([np.square(entries(layer)).mean() * n for layer in layers])
    assert power == pytest.approx(1, abs=0.02)


def test_hadamard_rows_are_alike() -> None:
    """What its docstring admits: up to the sign of its column, an entry depends on i ^ j alone."""
    p = entries(PRPLinear(16, 16, distribution="hadamard", seed=4, dtype=torch.float64))
    signs = generator.matrix(4, 1, 16, "rademacher")[0]
    rows, columns = np.indices((16, 16))
    np.testing.assert_allclose((p * signs)[rows, columns], (p * signs)[rows ^ columns, 0], atol=1e-15)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 9), (768, 768), (768, 3072), (4096, 100), (100, 4096), (1009, 1009)])
def test_the_cut_holds_inputs_and_outputs(n: int, m: int) -> None:
    cut = hadamard.cut(n, m)
    assert max(n, m) <= cut.length < 2 * max(n, m)
    assert cut.low in (cut.high, 2 * cut.high)
    for size, rows in ((n, cut.rows_in), (m, cut.rows_out)):
        assert (rows - 1) * cut.low < size <= rows * cut.low <= cut.length


# ---- the low-rank path


@pytest.mark.parametrize("distribution", ["gaussian", "orthogonal", "hadamard"])
@pytest.mark.parametrize(("n", "m", "rank"), [(1, 1, 1), (12, 7, 3), (7, 12, 7)])
def test_a_rank_adds_its_product(n: int, m: int, rank: int, distribution: str) -> None:
    layer = PRPLinear(n, m, distribution=distribution, seed=3, rank=rank, dtype=torch.float64)
    models.randomise(layer)
    x = models.inputs(4, n, dtype=np.float64)
    assert_close(layer(torch.from_numpy(x)), models.expected(layer, x), nmse=1e-26, what="forward")
    assert_close(layer.dense(), models.prp_matrix(layer), nmse=1e-26, what="dense()")


def test_a_rank_starts_without_effect_and_trains() -> None:
    torch.manual_seed(0)
    layer = PRPLinear(40, 30, rank=4)
    assert layer.low_rank_in is not None and layer.low_rank_out is not None
    assert layer.low_rank_in.shape == (4, 40) and layer.low_rank_out.shape == (30, 4)
    assert not layer.low_rank_out.any()
    assert 0.9 < layer.low_rank_in.abs().max() * np.sqrt(40) <= 1
    layer(torch.randn(5, 40)).square().sum().backward()
    assert layer.low_rank_out.grad is not None
    assert layer.low_rank_out.grad.any()


@pytest.mark.parametrize("distribution", sorted(matrices.DISTRIBUTIONS))
@pytest.mark.parametrize("rank", [1, 5])
def test_from_linear_gives_the_rank_the_best_of_the_rest(rank: int, distribution: str) -> None:
    """The distance that is left is that of the singular values beyond the rank (Eckart and Young)."""
    torch.manual_seed(0)
    linear = nn.Linear(30, 20, dtype=torch.float64)
    plain = PRPLinear.from_linear(linear, distribution=distribution, seed=3)
    layer = PRPLinear.from_linear(linear, distribution=distribution, seed=3, rank=rank)
    values = np.linalg.svd(linear.weight.detach().numpy() - plain.dense().numpy(), compute_uv=False)
    left = np.linalg.norm((layer.dense() - linear.weight).detach().numpy())
    assert left == pytest.approx(np.linalg.norm(values[rank:]), rel=1e-9)
    assert torch.equal(layer.in_scale, plain.in_scale)


def test_a_full_rank_is_the_linear_layer() -> None:
    linear = nn.Linear(9, 6, dtype=torch.float64)
    x = torch.randn(4, 9, dtype=torch.float64)
    assert_close(PRPLinear.from_linear(linear, rank=6)(x), linear(x), nmse=1e-26, what="rank 6")


@pytest.mark.parametrize("rank", [-1, 7, 1.0, True, None])
def test_ranks_that_cannot_be_are_named(rank: Any) -> None:
    said = f"PRPLinear does not support rank={rank!r}. Choose an integer from 0 (no low-rank path) to 6."
    with pytest.raises(ShapeError, match=f"^{re.escape(said)}$"):
        PRPLinear(9, 6, rank=rank)


def test_repr_says_the_rank() -> None:
    layer = PRPLinear(6, 5, distribution="hadamard", seed=0, rank=2)
    assert str(layer).endswith("distribution='hadamard', seed=0, rank=2)")
    assert str(eval(str(layer))) == str(layer)


# ---- what they cost


@pytest.mark.parametrize(
    ("layer", "numbers", "multiply_adds"),
    [
        pytest.param(PRPLinear(2048, 1024), 4096, 2048 * 1024 + 3072, id="the-paper's-example"),
        pytest.param(PRPLinear(20, 10, False, rank=3), 30 + 90, 200 + 30 + 90, id="rank"),
        pytest.param(PRPLinear(20, 10, distribution="orthogonal"), 40, 200 + 30, id="orthogonal"),
        pytest.param(PRPLinear(64, 64, distribution="hadamard"), 192, 4 * 64 * 8 + 64 + 128, id="hadamard"),
        pytest.param(PRPLinear(3, 9, distribution="hadamard"), 21, (1 + 3) * 32 + 16 + 12, id="hadamard-cut"),
    ],
)
def test_numbers_and_arithmetic(layer: PRPLinear, numbers: int, multiply_adds: int) -> None:
    assert sum(parameter.numel() for parameter in layer.parameters()) == numbers
    assert layer.multiply_adds() == multiply_adds


# ---- what every layer keeps


KINDS = pytest.mark.parametrize("options", [{"distribution": "orthogonal"}, {"distribution": "hadamard"}, {"rank": 3}])


@KINDS
@pytest.mark.parametrize(("dtype", "nmse"), [(torch.float16, 4e-6), (torch.bfloat16, 3e-4)])
def test_half_precision_stays_near(dtype: torch.dtype, nmse: float, options: dict[str, Any]) -> None:
    models.check_half_precision(PRPLinear(61, 97, **options), dtype, nmse)


@KINDS
def test_autocast(options: dict[str, Any]) -> None:
    models.check_autocast(PRPLinear(48, 33, **options))


@KINDS
def test_conversions(options: dict[str, Any]) -> None:
    models.check_conversions(PRPLinear(48, 33, **options))


@KINDS
def test_copies(options: dict[str, Any]) -> None:
    """A transform of 512 stores 6 KiB of scales; its tables would be another 10."""
    stored = 512 * 512 * 4 if options.get("distribution") == "orthogonal" else 0
    models.check_copies(PRPLinear(512, 512, **options), most_bytes=stored + (3 + 6) * 512 * 4 + 6000)


def test_a_transform_keeps_its_tables_out_of_copies() -> None:
    models.check_copies(PRPLinear(512, 512, distribution="hadamard"), most_bytes=3 * 512 * 4 + 6000)


@pytest.mark.slow
def test_another_process_has_the_same_transform() -> None:
    models.check_another_process("PRPLinear(70, 50, seed=2**63 + 5, distribution='hadamard')")


@pytest.mark.slow
@pytest.mark.parametrize("distribution", ["gaussian", "orthogonal", "hadamard"])
def test_compiles_whole(distribution: str) -> None:
    layer = models.randomise(PRPLinear(30, 20, distribution=distribution, rank=2))
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for batch in (3, 5):
        x = torch.randn(batch, 30)
        assert_close(compiled(x), layer(x), nmse=1e-13, what="compiled")


# ---- the comparisons can fail


def test_swapped_signs_are_noticed() -> None:
    """Meta-test: D1 and D2 from each other's rows."""
    layer, x = (
        PRPLinear(64, 64, distribution="hadamard", seed=0, dtype=torch.float64),
        models.inputs(4, 64, dtype=np.float64),
    )
    h = models.hadamard(64) / 8.0
    first, second = generator.matrix(0, 2, 64, "rademacher").astype(np.float64)
    layer.in_scale.data.fill_(1.0)
    layer.out_scale.data.fill_(1.0)
    y = layer(torch.from_numpy(x))
    assert_close(y, x @ (h @ np.diag(second) @ h @ np.diag(first)).T, nmse=1e-26, what="as it is")
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(y, x @ (h @ np.diag(first) @ h @ np.diag(second)).T, nmse=1e-26, what="swapped")
