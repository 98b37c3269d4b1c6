"""Tables against scipy's SVD, brute force and planted structure."""

import numpy as np
import pytest
from scipy.linalg import svdvals

from edgefc.errors import EdgefcError, UsageError
from edgefc.fitting.solve import fit_table
from edgefc.fitting.tables import QuantizedTableFit, fit_low_rank_table, fit_quantized_table
from edgefc.plan import PRP, Half, Int2, Int4, Int8, Keep, LowRank

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(50, 12), (7, 12), (1, 5), (5, 1)])
def test_low_rank_weighted_by_frequency(shape: tuple[int, int]) -> None:
    table, counts = RNG.normal(size=shape), RNG.integers(0, 1000, shape[0])
    weights = np.sqrt(counts + 1.0)[:, None]
    for rank in range(1, min(shape) + 1):
        found = fit_low_rank_table(table, counts, rank)
        error = (((found.dense() - table) * weights) ** 2).sum()
        least = (svdvals(table * weights)[rank:] ** 2).sum()
        assert error == pytest.approx(least, rel=1e-6, abs=1e-9 * (weights**2).sum())
        plain = fit_low_rank_table(table, None, rank)
        assert ((plain.dense() - table) ** 2).sum() == pytest.approx((svdvals(table)[rank:] ** 2).sum(), abs=1e-9)


def test_planted_rank() -> None:
    table = RNG.normal(size=(30, 3)) @ RNG.normal(size=(3, 8))
    np.testing.assert_allclose(fit_low_rank_table(table, RNG.integers(0, 9, 30), 3).dense(), table, atol=1e-10)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("rows", "features", "group"), [(5000, 16, 16), (3, 7, 16), (2, 40, 16), (1, 1, 32)])
def test_quantised_rows(bits: int, rows: int, features: int, group: int) -> None:
    table = RNG.normal(size=(rows, features))
    found = fit_quantized_table(table, bits, group)
    width = -(-features // group) * group
    assert found.codes.shape == (rows, width) and (found.codes[:, features:] == 2 ** (bits - 1)).all()
    steps = np.repeat(found.scales.astype(float), group, axis=1)
    np.testing.assert_array_equal(found.dense(), ((found.codes - 2.0 ** (bits - 1)) * steps)[:, :features])
    # no other code is nearer
    every = (np.arange(2**bits) - 2.0 ** (bits - 1))[:, None, None] * steps[None, :, :features]
    nearest = np.abs(every[:, :200] - table[:200]).min(0)
    np.testing.assert_allclose(np.abs(found.dense() - table)[:200], nearest, atol=1e-12)
    # and the scales are better than those of the largest number
    peak = np.abs(np.pad(table, ((0, 0), (0, width - features))).reshape(rows, -1, group)).max(2)
    usual = np.repeat(peak / 2 ** (bits - 1), group, axis=1)[:, :features]
    half = 2 ** (bits - 1)
    usual_error = (np.clip(np.rint(table / usual), -half, half - 1) * usual - table) ** 2
    assert ((found.dense() - table) ** 2).sum() <= usual_error.sum() * 1.001 + 1e-6


def test_configurations() -> None:
    table, counts = RNG.normal(size=(40, 32)), RNG.integers(0, 9, 40)
    for to, bits in ((Int8(), 8), (Int4(group=16), 4), (Int2(), 2)):
        found = fit_table(to, table, counts)
        assert isinstance(found, QuantizedTableFit) and (found.bits, found.group) == (bits, to.group)
    np.testing.assert_array_equal(fit_table(Half(), table).dense(), table.astype(np.float16))
    exact = fit_table(LowRank(rank=16), table, counts).dense()
    for storage, bound in (("half", 1e-3), ("int8", 1e-2)):
        stored = fit_table(LowRank(rank=16, storage=storage), table, counts)
        assert np.linalg.norm(stored.dense() - exact) < bound * np.linalg.norm(exact)
        assert stored.stored_bits < 32 * 16 * (40 + 32) * 0.6


def test_refusals() -> None:
    table = RNG.normal(size=(4, 3))
    for to in (Keep(), PRP()):
        with pytest.raises(UsageError, match=f"no fit serves {to.kind} for an embedding"):
            fit_table(to, table)
    for bad, counts in (
        (table[0], None),
        (table * np.nan, None),
        (table, [1, 2]),
        (table, [1, 2, -1, 0]),
        (table, [np.nan] * 4),
        (table * 1e8, None),
    ):
        with pytest.raises(EdgefcError):
            fit_table(Int4(), bad, counts)
    with pytest.raises(UsageError, match="from 1 to 3, got 4"):
        fit_low_rank_table(table, None, 4)
