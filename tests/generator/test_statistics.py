"""What the seeded matrix must look like: independent, identically distributed entries, whatever the seed.

Each check takes any `words(seed, rows, columns)` and returns findings: a statistic, and the probability `p` of one
as extreme if every word were truly random. Seeds are fixed, so a check passes or fails for good.

    moments                 mean, variance and fourth moment of the entries
    code_frequencies        chi-square of codes of 1, 2, 4, 8 bits, over many seeds and by place in the word
    neighbouring_codes      chi-square of pairs: next code, next word, next row
    row_correlation         all pairs of rows, of near and of scattered indices
    column_correlation      all pairs of columns
    shifted_rows            all pairs of rows at all shifts by whole words
    spectrum                eigenvalues against Marchenko and Pastur: the bulk and both edges
    rows_share_no_stream    equal words and equal runs of words anywhere in one matrix
    seeds_share_no_stream   the same between seeds that differ by one, by 2**32, by one bit
    seeds_uncorrelated      matrices of such seeds, in place and moved by rows or words
    avalanche_of_seed, _of_row, _of_column    one bit flipped going in flips half of the bits coming out

The meta-tests below run the same checks on tests/generator/weak_generators.py, which has to fail them.
"""

import importlib.util
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats

from edgefc import generator

Array = np.ndarray[Any, np.dtype[Any]]
Words = Callable[[int, Array, Array], Array]

FALSE_ALARM = 1e-5
"""How often truly random words would fail one finding. There are about 100: one alarm in 1,000 choices of seeds."""

SEEDS = (0, 1, 0x0123456789ABCDEF, 2**64 - 1)
MANY_SEEDS = range(96)
ALL_BITS = np.arange(32, dtype=np.uint32)


class Finding(NamedTuple):
    what: str
    value: float
    p: float


# ---- entries from words


def span(count: int, step: int = 1) -> Array:
    return np.arange(count, dtype=np.uint32) * np.uint32(step)


def cut(words: Array, bits: int) -> Array:
    """(r, c) words -> (r, c * 32 / bits) codes, low bits first."""
    codes = words[:, :, None] >> span(32 // bits, bits) & np.uint32(2**bits - 1)
    return codes.astype(np.uint8).reshape(len(words), -1)


def signs(words: Array) -> Array:
    """(..., c) words -> (..., c, 32) float32 of +1 and -1."""
    return np.float32(1) - np.float32(2) * (words[..., None] >> ALL_BITS & np.uint32(1)).astype(np.float32)


def entries(words: Words, seed: int, rows: Array, columns: Array, distribution: str) -> Array:
    book = generator.codebook(distribution)
    return np.array(book.levels, np.float32)[cut(words(seed, rows, columns), book.bits)]


def square(words: Words, seed: int, size: int, distribution: str) -> Array:
    columns = generator.words_per_row(size, generator.codebook(distribution).bits)
    return entries(words, seed, span(size), span(columns), distribution)


# ---- statistics to probabilities


def normal(what: str, z: float) -> Finding:
    return Finding(what, float(z), float(2 * stats.norm.sf(abs(z))))


def normals(what: str, z: Array) -> Iterator[Finding]:
    """Many uncorrelated z: the largest (Bonferroni), and their variance against 1."""
    largest = float(np.abs(z).max())
    yield Finding(f"{what}: largest |z| of {z.size}", largest, min(1.0, float(2 * stats.norm.sf(largest) * z.size)))
    excess = np.square(z, dtype=np.float64).mean() - 1
    yield normal(f"{what}: variance of z", excess / math.sqrt(2 / z.size))


def chi_square(counts: Array) -> Array:
    """p of a uniform distribution over the last axis."""
    expected = counts.sum(-1, keepdims=True) / counts.shape[-1]
    return stats.chi2.sf((np.square(counts - expected) / expected).sum(-1), counts.shape[-1] - 1)


def smallest(what: str, p: Array) -> Finding:
    return Finding(f"{what}: smallest p of {p.size}", float(p.min()), min(1.0, float(p.min() * p.size)))


def poisson(what: str, count: int, mean: float) -> Finding:
    tail = min(stats.poisson.sf(count - 1, mean), stats.poisson.cdf(count, mean))
    return Finding(f"{what}: {mean:.3g} expected", count, min(1.0, float(2 * tail)))


def tracy_widom(what: str, s: float) -> Finding:
    """Tails of the largest eigenvalue's law, beta = 1; p is 1 in the middle, where the expansions do not hold.

    Right: Dumaz and Virag, https://arxiv.org/abs/1102.4818. Left: Baik, Buckingham and DiFranco,
    https://arxiv.org/abs/0704.3636. At s = 3.2724, the 0.999 quantile, the right one gives 0.0011.
    """
    p = 0.5
    if s > 1:
        p = math.exp(-2 / 3 * s**1.5) / (4 * math.sqrt(math.pi) * s**0.75)
    elif s < -3:
        p = 0.786 * math.exp(-(abs(s) ** 3) / 24 - abs(s) ** 1.5 / (3 * math.sqrt(2))) / abs(s) ** (1 / 16)
    return Finding(f"{what}: Tracy-Widom s", s, min(1.0, 2 * p))


# ---- the checks


def moments(words: Words) -> Iterator[Finding]:
    for name, book in generator.CODEBOOKS.items():
        levels = np.array(book.levels, np.float64)
        counts = np.zeros(len(levels))
        for seed in SEEDS:
            codes = cut(words(seed, span(2048), span(2048 * book.bits // 32)), book.bits)
            counts += np.bincount(codes.ravel(), minlength=len(levels))
        for power in (1, 2, 4):
            values = levels**power
            if values.std() > 1e-9:  # squares of signs do not vary
                z = (counts @ values / counts.sum() - values.mean()) / values.std() * math.sqrt(counts.sum())
                yield normal(f"{name}: moment {power}", z)


def code_frequencies(words: Words) -> Iterator[Finding]:
    grids = np.stack([words(seed, span(64), span(64)).ravel() for seed in MANY_SEEDS])
    for bits in (1, 2, 4, 8):
        places, levels = 32 // bits, 2**bits
        counts = np.zeros((len(grids), places, levels))
        for place in range(places):
            codes = (grids >> np.uint32(place * bits) & np.uint32(levels - 1)).astype(np.int64)
            table = np.bincount(
                (codes + levels * np.arange(len(grids))[:, None]).ravel(), minlength=len(grids) * levels
            )
            counts[:, place] = table.reshape(-1, levels)
        p = chi_square(counts.sum(1))
        yield smallest(f"{bits} bits, by seed", p)
        ks = stats.kstest(p, "uniform")
        yield Finding(f"{bits} bits: Kolmogorov-Smirnov of {p.size} p", float(ks.statistic), float(ks.pvalue))
        yield smallest(f"{bits} bits, by place in the word", chi_square(counts.sum(0)))


def neighbouring_codes(words: Words) -> Iterator[Finding]:
    for seed in SEEDS[:2]:
        grid = words(seed, span(512), span(512))
        for bits in (2, 4, 8):
            codes = cut(grid, bits).reshape(512, 512, -1).astype(np.int64)
            pairs = {
                "next code": (codes[:, :, 0::2], codes[:, :, 1::2]),
                "next word": (codes[:, 0::2], codes[:, 1::2]),
                "next row": (codes[0::2], codes[1::2]),
            }
            for what, (a, b) in pairs.items():
                p = chi_square(np.bincount((a << bits | b).ravel(), minlength=4**bits).astype(np.float64))
                yield Finding(f"seed {seed:#x}, {bits} bits, {what}: chi-square", float(p), float(2 * min(p, 1 - p)))


def row_correlation(words: Words) -> Iterator[Finding]:
    for distribution in generator.CODEBOOKS:
        yield from normals(f"{distribution}", correlations(square(words, SEEDS[2], 1024, distribution)))
    for seed in SEEDS:
        scattered = signs(words(seed, span(1024, 2**22), span(32, 2**27))).reshape(1024, -1)
        yield from normals(f"seed {seed:#x}, scattered", correlations(scattered))


def column_correlation(words: Words) -> Iterator[Finding]:
    for distribution in generator.CODEBOOKS:
        yield from normals(f"{distribution}", correlations(square(words, SEEDS[2], 1024, distribution).T))
    for seed in SEEDS:
        scattered = signs(words(seed, span(1024, 2**22), span(32, 2**27))).reshape(1024, -1)
        yield from normals(f"seed {seed:#x}, scattered", correlations(scattered.T))


def correlations(rows: Array) -> Array:
    """z of every pair of rows. With rows of length one the squares of z have mean 1 and do not correlate."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.maximum(lengths, np.finfo(rows.dtype).tiny)  # a weak generator may make a row of zeros
    return (rows @ rows.T)[np.triu_indices(len(rows), 1)] * math.sqrt(rows.shape[1])


def shifted_rows(words: Words) -> Iterator[Finding]:
    rows, columns = 128, 256
    upper = np.triu_indices(rows, 1)
    for seed in SEEDS[:2]:
        waves = np.fft.rfft(signs(words(seed, span(rows), span(columns))), axis=1)  # (rows, frequencies, 32)
        waves = waves.transpose(1, 0, 2)
        z = np.fft.irfft(waves @ waves.conj().transpose(0, 2, 1), n=columns, axis=0) / math.sqrt(columns * 32)
        yield from normals(f"seed {seed:#x}, two rows", z[(slice(None), *upper)])
        yield from normals(f"seed {seed:#x}, one row", z[1 : columns // 2].diagonal(axis1=1, axis2=2))


def spectrum(words: Words) -> Iterator[Finding]:
    n = 1024
    for distribution in generator.CODEBOOKS:
        whole = square(words, SEEDS[2], n, distribution).astype(np.float64)  # the smallest is about 1 / n**2
        for p in (n, n // 2, n // 4, n // 8):
            values = np.linalg.eigvalsh(whole[:p] @ whole[:p].T / n)
            yield from spectral(f"{distribution} {p} x {n}", values, p, n)


def spectral(what: str, values: Array, p: int, n: int) -> Iterator[Finding]:
    """Eigenvalues of a p x n matrix times its transpose over n, p <= n, in ascending order.

    Bulk: how many eigenvalues lie below any point fluctuates by sqrt(log p) / pi about Marchenko and Pastur's law,
    after a bias of at most 1/2. Edges: centre and scale by Ma, https://arxiv.org/abs/0812.3216; a square
    matrix's smallest eigenvalue by Edelman, https://doi.org/10.1137/0609045.
    """
    ranks = np.arange(p + 1)
    law = marchenko_pastur(values, p / n) * p
    gap = max(np.abs(ranks[1:] - law).max(), np.abs(ranks[:-1] - law).max())
    z = max(0.0, gap - 1.5) / math.sqrt(math.log(p)) * math.pi  # a step of 1, a bias of 1/2
    yield Finding(f"{what}: bulk, eigenvalues out of place", gap, min(1.0, float(2 * p * stats.norm.sf(z))))

    a, b = math.sqrt(n - 0.5), math.sqrt(p - 0.5)
    yield tracy_widom(f"{what}: top", (values[-1] * n - (a + b) ** 2) / ((a + b) * (1 / a + 1 / b) ** (1 / 3)))
    if p == n:
        x = max(float(values[0]), 0.0) * n * n
        tail = math.exp(-(x / 2 + math.sqrt(x)))
        yield Finding(f"{what}: bottom, Edelman's x", x, 2 * min(tail, 1 - tail))
    else:
        scale = (1 / b - 1 / a) ** (1 / 3) / (a - b)
        centre = 2 * math.log(a - b) + scale**2 / 8
        yield tracy_widom(f"{what}: bottom", (centre - math.log(max(values[0] * n, 1e-30))) / scale)


def marchenko_pastur(x: Array, ratio: float) -> Array:
    """The law's distribution function: with x = 1 + ratio - 2 sqrt(ratio) cos t its density in t is smooth."""
    t = np.linspace(0, math.pi, 20001)
    points = 1 + ratio - 2 * math.sqrt(ratio) * np.cos(t)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = 2 / math.pi * np.sin(t) ** 2 / points
    density[0] = density[1]
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(x, points, mass / mass[-1])


def rows_share_no_stream(words: Words) -> Iterator[Finding]:
    for seed in SEEDS[:2]:
        for rows, columns in ((16384, 128), (1024, 2048)):
            grid = words(seed, span(rows), span(columns))
            yield from repeats(f"seed {seed:#x}, {rows} x {columns}", grid[None])


def seeds_share_no_stream(words: Words) -> Iterator[Finding]:
    for base in SEEDS[:3]:
        yield from repeats(
            f"neighbours of {base:#x}",
            np.stack([words(seed, span(64), span(128)) for seed in [base, *neighbours(base)]]),
        )


def neighbours(base: int) -> list[int]:
    """Seeds that differ by one, two, 2**32, one bit, or the same bit of both halves."""
    moved = [base + step for step in (1, 2, 3, 2**32, 2**33, 2**32 + 1)]
    flipped = [base ^ 1 << bit for bit in range(64)] + [base ^ (1 << bit | 1 << bit + 32) for bit in range(32)]
    return sorted({seed % 2**64 for seed in moved + flipped})


def repeats(what: str, grids: Array) -> Iterator[Finding]:
    """Equal words among (matrices, rows, columns), and equal runs along rows and down columns, against chance.

    A run is also taken from the differences of neighbours: streams that differ by a constant share those.
    """
    count = grids.size
    yield poisson(f"{what}: equal words", equal_pairs(grids), count * (count - 1) / 2 / 2**32)
    for name, along in (("rows", grids), ("columns", grids.swapaxes(1, 2))):
        steps = along[:, :, 1:] ^ along[:, :, :-1]
        differences = along[:, :, 1:] - along[:, :, :-1]
        for kind, stream in (("words", along), ("xors", steps), ("differences", differences)):
            runs = stream[:, :, :-1].astype(np.uint64) << np.uint64(32) | stream[:, :, 1:]
            yield poisson(f"{what}: equal {kind} along {name}", equal_pairs(runs), runs.size**2 / 2 / 2**64)


def equal_pairs(values: Array) -> int:
    """How many pairs of values are equal."""
    ordered = np.sort(values, axis=None)
    edges = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    sizes = np.diff(edges)
    return int((sizes * (sizes - 1) // 2).sum())


def seeds_uncorrelated(words: Words) -> Iterator[Finding]:
    rows, columns, shifts = 32, 32, (-8, -1, 1, 8)
    for base in SEEDS[1:3]:
        first = signs(words(base, span(rows), span(columns)))
        in_place, moved = [], []
        for seed in neighbours(base):
            other = signs(words(seed, span(rows), span(columns)))
            in_place.append((first * other).sum() / math.sqrt(first.size))
            pairs = [first.reshape(rows, -1) @ other.reshape(rows, -1).T / math.sqrt(columns * 32)]
            for shift in shifts:
                a = first[:, max(shift, 0) : columns + min(shift, 0)].reshape(rows, -1)
                b = other[:, max(-shift, 0) : columns - max(shift, 0)].reshape(rows, -1)
                pairs.append(a @ b.T / math.sqrt(a.shape[1]))
            moved.append(np.stack(pairs))
        yield from normals(f"neighbours of {base:#x}, in place", np.array(in_place))
        yield from normals(f"neighbours of {base:#x}, rows and shifts", np.stack(moved))


def avalanche_of_seed(words: Words) -> Iterator[Finding]:
    def flips(bit: int) -> Iterator[Array]:
        for point in [*range(12), *(int(p) for p in random_points(12, 63))]:
            seed = with_zero_at(point, bit)
            yield words(seed, span(16), span(16)) ^ words(seed | 1 << bit, span(16), span(16))

    yield from avalanche(flips, 64)


def avalanche_of_row(words: Words) -> Iterator[Finding]:
    def flips(bit: int) -> Iterator[Array]:
        rows = zeroed_points(bit)
        for seed in SEEDS:
            yield words(seed, rows, span(64)) ^ words(seed, rows | np.uint32(1 << bit), span(64))

    yield from avalanche(flips, 32)


def avalanche_of_column(words: Words) -> Iterator[Finding]:
    def flips(bit: int) -> Iterator[Array]:
        columns = zeroed_points(bit)
        for seed in SEEDS:
            yield words(seed, span(64), columns) ^ words(seed, span(64), columns | np.uint32(1 << bit))

    yield from avalanche(flips, 32)


def avalanche(flips: Callable[[int], Iterable[Array]], bits: int) -> Iterator[Finding]:
    """Each of `bits` input bits against each of 32 output bits: flipped in half of the trials."""
    z = np.empty((bits, 32))
    for bit in range(bits):
        changed = np.concatenate([grid.ravel() for grid in flips(bit)])
        counts = np.unpackbits(changed.view(np.uint8).reshape(-1, 4), axis=1, bitorder="little").sum(0, dtype=np.int64)
        z[bit] = (counts - changed.size / 2) / math.sqrt(changed.size / 4)
    yield normal("all bits: mean flips", z.sum() / math.sqrt(z.size))
    yield from normals("one bit to one bit", z)


def zeroed_points(bit: int) -> Array:
    """Small and random indices whose `bit` is 0, none twice."""
    points = [*range(64), *(int(p) for p in random_points(64, 31))]
    return np.array([with_zero_at(point, bit) for point in points], np.uint32)


def with_zero_at(point: int, bit: int) -> int:
    return point >> bit << bit + 1 | point & (1 << bit) - 1


def random_points(count: int, bits: int) -> Array:
    return np.random.default_rng(0).integers(2**16, 2**bits, count, dtype=np.uint64)


CHECKS = {
    check.__name__: check
    for check in (
        moments,
        code_frequencies,
        neighbouring_codes,
        row_correlation,
        column_correlation,
        shifted_rows,
        spectrum,
        rows_share_no_stream,
        seeds_share_no_stream,
        seeds_uncorrelated,
        avalanche_of_seed,
        avalanche_of_row,
        avalanche_of_column,
    )
}


# ---- the tests


def load_weak_generators() -> Any:
    """tests/ is no package, so its helper module is loaded by path."""
    path = Path(__file__).with_name("weak_generators.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


weak = load_weak_generators()


def assert_random(findings: Iterable[Finding]) -> None:
    """Fail with every finding that truly random words would show less often than FALSE_ALARM."""
    everything = list(findings)
    assert everything, "no findings prove nothing"
    alarms = [f"{what} = {value:.6g}, p = {p:.2g}" for what, value, p in everything if not p >= FALSE_ALARM]
    assert not alarms, f"{len(alarms)} of {len(everything)} findings: " + "; ".join(alarms[:5])


LONG = {"rows_share_no_stream": pytest.mark.slow}


@pytest.mark.parametrize("check", [pytest.param(check, marks=LONG.get(check, ())) for check in CHECKS])
def test_the_seeded_matrix_looks_random(check: str) -> None:
    assert_random(CHECKS[check](generator.words))


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_a_stronger_generator_passes_the_same_check(check: str) -> None:
    """The thresholds are those of random words: ten times the arithmetic shows nothing either."""
    assert_random(CHECKS[check](weak.strong))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flawed", "check"),
    [
        pytest.param(flawed, check, id=f"{flawed.__name__}-{check}")
        for flawed, fails in weak.FAILS.items()
        for check in fails
    ],
)
def test_a_weak_generator_is_caught(flawed: Words, check: str) -> None:
    """Meta-test: each flaw is seen by each check that weak_generators.py names beside it."""
    with pytest.raises(AssertionError, match=r"findings: .* p = "):
        assert_random(CHECKS[check](flawed))


def test_every_check_can_fail() -> None:
    assert {check for fails in weak.FAILS.values() for check in fails} == set(CHECKS)


def test_rows_that_meet_are_nearly_uncorrelated() -> None:
    """Rows that walk the same counters differ by their twists alone (README.md, "Rows meet").

    This looks inside the generator: among 2**20 rows, 400 pairs whose starts are less than 256 words apart.
    """
    largest_correlation, rms_correlation = 0.15, 0.01  # twice what the README reports: a twist that fails gives 1

    seed, length = 12345, 8192
    key_1, _ = generator.keys(seed)
    rows = span(2**20)
    start = generator._mix(rows + np.uint32(key_1))
    place = start * np.uint32(pow(generator.STRIDE, -1, 2**32))  # in words, along the circle of counters
    order = np.argsort(place)
    apart = np.diff(place[order])
    meeting = np.flatnonzero(apart < 256)[:400]
    assert len(meeting) == 400

    correlations_ = []
    for at in meeting:
        behind, ahead = order[at : at + 1].astype(np.uint32), order[at + 1 : at + 2].astype(np.uint32)
        shift = apart[at]
        first = entries(generator.words, seed, behind, span(length) + shift, "gaussian")
        second = entries(generator.words, seed, ahead, span(length), "gaussian")
        correlations_.append((first * second).mean())
    correlation = np.array(correlations_)
    noise = 1 / (length * 8)
    assert np.abs(correlation).max() < largest_correlation
    assert np.square(correlation).mean() - noise < rms_correlation**2


@pytest.mark.parametrize("bit", [0, 5, 10, 15, 20, 25])
def test_columns_do_not_lean_at_any_usable_distance(bit: int) -> None:
    """Words 2**bit columns apart, four million pairs: no bit of 32 flips more or less often than half."""
    assert_random(normals(f"columns 2**{bit} apart", leaning(bit)))


def test_very_far_columns_lean() -> None:
    """README.md, "Very far columns lean": a known flaw, seen where rows have more than 2**30 words."""
    z = leaning(30)
    assert 0.505 < 0.5 + np.abs(z).max() / 2 / 2048 < 0.513  # the README's 0.509


def leaning(bit: int) -> Array:
    """z of each output bit's flips over 2048 rows and 2048 pairs of columns."""
    points = np.unique(np.random.default_rng(bit).integers(0, 2**31, 2048, dtype=np.uint32))
    columns = np.array([with_zero_at(int(point), bit) for point in points], np.uint32)
    changed = generator.words(9, span(2048), columns) ^ generator.words(9, span(2048), columns | np.uint32(1 << bit))
    counts = np.array([np.count_nonzero(changed & np.uint32(1 << out)) for out in range(32)])
    return (counts - changed.size / 2) / math.sqrt(changed.size / 4)


@pytest.mark.parametrize(("quantile", "p"), [(2.0234, 0.01), (3.2724, 0.001), (-3.8954, 0.01)])
def test_tracy_widom_tails(quantile: float, p: float) -> None:
    """Tabled quantiles of the law, which the expansions meet to a quarter."""
    assert tracy_widom("", quantile).p / 2 == pytest.approx(p, rel=0.25)


@pytest.mark.parametrize("ratio", [1.0, 0.25])
def test_marchenko_pastur_has_its_moments(ratio: float) -> None:
    """Mean 1 and variance `ratio`, from the distribution function."""
    x = np.linspace(0, 4, 400001)
    mass = np.diff(marchenko_pastur(x, ratio), prepend=0.0)
    assert mass @ x == pytest.approx(1, abs=1e-3)
    assert mass @ (x - 1) ** 2 == pytest.approx(ratio, abs=1e-3)
