"""Fits to trained weights come as near as slower methods do: all singular values, hundreds of alternating sweeps."""

import io
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgefc
from edgefc import generator, progress
from edgefc.fitting import truncated
from edgefc.fitting.fitted import Array
from edgefc.fitting.free_entries import nearest_where_used
from edgefc.layers.common.low_rank import nearest_low_rank
from edgefc.layers.prp.scales import nearest_scales
from edgefc.testing import assert_close

SIZES = [(1, 1), (1, 7), (7, 1), (13, 13), (31, 67), (101, 37)]


def noise(m: int, n: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(m + n).standard_normal((m, n)))


def ranks_left(matrix: Tensor, rank: int) -> float:
    """The distance to the nearest matrix of that rank, by numpy's singular values."""
    return float(np.linalg.norm(np.linalg.svd(matrix.numpy(), compute_uv=False)[rank:]))


# ---- low rank


@pytest.mark.parametrize(("m", "n"), [*SIZES, (384, 384), (40, 384)])
@pytest.mark.parametrize("rank", [1, 5, 16])
def test_low_rank_is_the_truncated_svd(m: int, n: int, rank: int) -> None:
    matrix = noise(m, n)
    rank = min(rank, m, n)
    down, across = nearest_low_rank(matrix, rank)
    assert down.shape == (m, rank) and across.shape == (n, rank)
    size = float(matrix.norm())
    assert float((matrix - down @ across.T).norm()) == pytest.approx(
        ranks_left(matrix, rank), rel=1e-9, abs=1e-7 * size
    )
    assert_close(down.norm(dim=0), across.norm(dim=0), nmse=1e-20, what="norms")


@pytest.mark.parametrize(("m", "n"), [(400, 300), (300, 400)])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_krylov_space_is_as_good(m: int, n: int, decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of large matrices, on smaller ones: within a millionth, for noise and for values that decay."""
    monkeypatch.setattr(truncated, "_EXACT_SIDE", 0)
    matrix = noise(m, n)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    matrix = left * (values * torch.arange(1, len(values) + 1) ** -decay) @ right
    down, across = nearest_low_rank(matrix, 1)
    least = ranks_left(matrix, 1)
    assert least * (1 - 1e-12) <= float((matrix - down @ across.T).norm()) <= least * (1 + 1e-6)


def test_low_rank_of_less_than_that_rank() -> None:
    """Pairs that are not needed are zero in down alone, and the product is exact."""
    for shape in ((9, 6), (6, 9)):
        matrix = torch.outer(torch.arange(shape[0]), torch.ones(shape[1])).double()
        down, across = nearest_low_rank(matrix, 3)
        assert_close(down @ across.T, matrix, nmse=1e-24, what=str(shape))
        assert (across.norm(dim=0) > 1e-9).all()


# ---- scales


def alternated(weight: Tensor, p: Tensor) -> float:
    """The distance after 500 sweeps of alternating least squares from the first singular vector of weight * P."""
    product, square = weight * p, p * p
    alpha = torch.from_numpy(np.linalg.svd(product.numpy())[2][0])
    for _ in range(500):
        w = (product @ alpha) / (square @ alpha.square()).clamp(min=1e-30)
        alpha = (product.T @ w) / (square.T @ w.square()).clamp(min=1e-30)
    return float((weight - w[:, None] * p * alpha).norm())


@pytest.mark.parametrize(("m", "n"), [*SIZES, pytest.param(384, 384, marks=pytest.mark.slow)])
@pytest.mark.parametrize("distribution", ["gaussian", "rademacher", "ternary"])
def test_scales_are_as_near_as_hundreds_of_sweeps(m: int, n: int, distribution: str) -> None:
    """Other entries than those of one size have several stationary points: two methods may end in two of them."""
    weight = noise(m, n)
    p = torch.from_numpy(generator.matrix(1, m, n, distribution).astype(float)) / n**0.5
    w, alpha = nearest_scales(weight, p)
    distance = float((weight - w[:, None] * p * alpha).norm())
    several = distribution != "rademacher"
    assert distance <= alternated(weight, p) * (1 + (2e-3 if several else 1e-9)) + 1e-9 * float(weight.norm())


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_scales_do_not_depend_on_the_size_of_the_weight(size: float) -> None:
    weight, p = noise(13, 11), noise(13, 12)[:, :11]
    expected = torch.outer(*nearest_scales(weight, p))
    assert_close(torch.outer(*nearest_scales(weight * size, p)) / size, expected, nmse=1e-10, what="fit")


# ---- free entries


def filled(blocks: Array, used: Array, down: Array, across: Array) -> float:
    """The distance after 200 times: fill the free entries, fit again."""
    for _ in range(200):
        rest = np.where(used > 0, blocks, down @ across.T)
        down = np.linalg.qr(rest @ across)[0]
        across = rest.T @ down
    return float(np.linalg.norm((blocks - down @ across.T) * used))


@pytest.mark.parametrize(("m", "n"), [(4, 16), (13, 29), (60, 90)])
@pytest.mark.parametrize("rank", [1, 3])
def test_free_entries_are_as_good_as_hundreds_of_sweeps(m: int, n: int, rank: int) -> None:
    used = (noise(m, n + 1).numpy()[:, :n] < 1).astype(float)
    blocks = noise(m, n).numpy() * used
    start = truncated.nearest_low_rank(blocks, rank)
    down, across = nearest_where_used(blocks, used, *start)
    distance = float(np.linalg.norm((blocks - down @ across.T) * used))
    assert distance <= filled(blocks, used, *start) * (1 + 1e-6)
    assert distance < float(np.linalg.norm((blocks - start[0] @ start[1].T) * used)) * (1 - 1e-4)


# ---- progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "after", "shown"), [(Terminal, 0.0, True), (Terminal, 60.0, False), (io.StringIO, 0.0, False)]
)
def test_long_fits_show_a_bar_on_terminals(
    stream: Any, after: float, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr(progress, "_AFTER_S", after)
    edgefc.PRPLinear.from_linear(nn.Linear(40, 30), rank=3)
    edgefc.BilinearLinear.from_linear(nn.Linear(13, 29))
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert ("fitting scales" in said and "fitting factors" in said) == shown
    assert bool(said) == shown
    assert not said or said.rsplit("\r", 2)[-2].strip() == ""  # the bar is gone
