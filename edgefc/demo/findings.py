"""What the results show: file against file with dense, quantity by quantity, and only what the spread carries.

accuracy        a 95 % interval of the difference, paired by seed
latency         a 95 % interval of the speed over dense, in the same rounds
load time       every launch of one on the same side of every launch of the other
peak memory     further apart than the peaks of one and the same model
numbers stored, file size    counted, so any difference is one
"""

from collections.abc import Iterator
from statistics import mean, median, stdev
from typing import Literal, NamedTuple

from scipy.stats import t as student_t

from edgefc.demo.results import File, Latency, Results
from edgefc.runtime.profiling.table import bytes_text, time_text

Verdict = Literal["wins", "loses", "undecided"]


class Finding(NamedTuple):
    """One quantity of a structured file against the dense one, with the figures behind the verdict."""

    quantity: str
    verdict: Verdict
    figures: str


class Difference(NamedTuple):
    """Percentage points of accuracy above dense; low and high are null with fewer than two seeds."""

    mean: float
    low: float | None
    high: float | None


def difference(results: Results, kind: str) -> Difference:
    """Seed by seed, with Student's 95 % interval of the mean.

    The seeds share 1,797 digits, so the interval covers the split and the start, not other people's handwriting.
    """
    pairs = zip(results.percents(kind), results.percents("dense"), strict=True)
    gaps = [one - other for one, other in pairs]
    if len(gaps) < 2:
        return Difference(mean(gaps), None, None)
    half = float(student_t.ppf(0.975, len(gaps) - 1)) * stdev(gaps) / len(gaps) ** 0.5
    return Difference(mean(gaps), mean(gaps) - half, mean(gaps) + half)


def findings(results: Results, file: File) -> list[Finding]:
    """One file against the dense one, which is the first."""
    dense = results.files[0]
    return [
        _accuracy(results, file.kind),
        *(_latency(latency) for latency in file.latencies),
        _load(file.load_ns, dense.load_ns),
        *_memory(results, file.peak_bytes, dense.peak_bytes),
        _count("numbers stored", "fewer", file.numbers, dense.numbers),
        _count("file size", "smaller", file.file_bytes, dense.file_bytes),
    ]


def sentences(results: Results) -> tuple[str, ...]:
    """One per structured file, then how accuracy was found, then where and with what all of it was measured."""
    about = tuple(_about(file.name, findings(results, file)) for file in results.files[1:])
    return (*about, _training(results), _conditions(results))


def _about(name: str, found: list[Finding]) -> str:
    loses, wins, undecided = (
        _listed([f"{f.quantity} ({f.figures})" for f in found if f.verdict == verdict])
        for verdict in ("loses", "wins", "undecided")
    )
    parts = [f"{name} loses to dense in {loses or 'nothing that could be shown'}."]
    if wins:
        parts.append(f"It wins in {wins}.")
    if undecided:
        parts.append(f"No difference could be shown in {undecided}.")
    return " ".join(parts)


def _listed(parts: list[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def _accuracy(results: Results, kind: str) -> Finding:
    gap, seeds = difference(results, kind), len(results.percents(kind))
    if gap.low is None or gap.high is None:
        return Finding("accuracy", "undecided", f"{gap.mean:+.2f} points; one seed shows nothing")
    figures = f"{gap.mean:+.2f} points, {gap.low:+.2f} to {gap.high:+.2f}, {seeds} seeds"
    return Finding("accuracy", _side(-gap.high, -gap.low), figures)


def _latency(latency: Latency) -> Finding:
    quantity = f"latency at batch {latency.batch}"
    if latency.speed is None or latency.low is None or latency.high is None:
        return Finding(quantity, "undecided", "too few rounds")
    figures = f"{latency.speed:.3g} times as fast, {latency.low:.3g} to {latency.high:.3g}"
    return Finding(quantity, _side(1 - latency.high, 1 - latency.low), figures)


def _load(own: tuple[int, ...], dense: tuple[int, ...]) -> Finding:
    figures = f"{time_text(median(own))} against {time_text(median(dense))}"
    if min(len(own), len(dense)) < 2:
        return Finding("load time", "undecided", f"{figures}; one launch shows nothing")
    return Finding("load time", _side(min(own) - max(dense), max(own) - min(dense)), figures)


def _memory(results: Results, own: int | None, dense: int | None) -> Iterator[Finding]:
    if own is None or dense is None:
        return
    noise = results.memory_noise_bytes or 0
    figures = f"{bytes_text(own)} against {bytes_text(dense)}"
    yield Finding("peak memory", _side(own - dense - noise, own - dense + noise), figures)


def _count(quantity: str, less: str, own: int, dense: int) -> Finding:
    figures = f"{dense / own:.3g} times {less}" if own < dense else f"{own / dense:.3g}x"
    return Finding(quantity, _side(own - dense, own - dense), figures)


def _side(low: float, high: float) -> Verdict:
    """Of a quantity of which less is better, from the interval of its excess over dense."""
    return "loses" if low > 0 else "wins" if high < 0 else "undecided"


def _training(results: Results) -> str:
    recipe, rows = results.recipe, results.trainings[0].rows
    seeds = len(results.percents("dense"))
    rates = ", ".join(f"{kind} {rate:g}" for kind, rate in recipe.rates.items())
    return (
        f"Ranges are 95 % intervals. Accuracy is over {seeds} {'seed' if seeds == 1 else 'seeds'}, each with its own "
        f"start and its own split of scikit-learn's 1,797 digits into {rows} to test on and the rest to train on; "
        f"Adam, {recipe.epochs} epochs, {recipe.rows_per_step} digits per step, first learning rate {rates}; the files "
        f"are those of seed {results.exported_seed}."
    )


def _conditions(results: Results) -> str:
    env = results.environment
    kind = ", emulated" if env.emulated else ", virtual" if env.virtual else ""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return (
        f"Measured on {env.machine}, {env.cpu or 'unknown CPU'}, {env.cores} cores{kind}, one thread; onnxruntime "
        f"{env.onnxruntime}, {versions}, Python {env.python}; load time is the median of fresh processes; another "
        "machine may give another order."
    )
