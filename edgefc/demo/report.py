"""Results for people: the table and its notes, printed and as markdown, and a plot where matplotlib is installed."""

import importlib
from pathlib import Path
from statistics import mean, median, stdev

from edgefc.demo.results import File, Latency, Results
from edgefc.files import staged
from edgefc.screen import out
from edgefc.tables import markdown_table, print_table

PLOT = "accuracy-size.png"
_MB = 1e6


def columns(results: Results) -> tuple[str, ...]:
    """Headings, with units."""
    batches = (f"batch {latency.batch} us (speed vs dense, higher is better)" for latency in results.files[0].latencies)
    return (
        "model", "test accuracy % (mean ± sd)", "numbers stored", "file bytes", "peak memory MB", "load ms", *batches
    )  # fmt: skip


def rows(results: Results) -> list[tuple[str, ...]]:
    """One per file; a star marks unreliable figures."""
    return [
        (
            file.name + ("*" if file.warnings else ""),
            accuracy_text(results.percents(file.kind)),
            f"{file.numbers:,}",
            f"{file.file_bytes:,}",
            "-" if file.peak_bytes is None else f"{file.peak_bytes / _MB:.1f}",
            f"{median(file.load_ns) / 1e6:.1f}",
            *map(_latency_text, file.latencies),
        )
        for file in results.files
    ]


def notes(results: Results) -> list[str]:
    """The sentences, then each warning with the files it is about."""
    warnings: dict[str, list[str]] = {}
    for file in results.files:
        for warning in file.warnings:
            warnings.setdefault(warning, []).append(file.name)
    return [*results.sentences, *(f"* {', '.join(names)}: {warning}" for warning, names in warnings.items())]


def show(results: Results) -> None:
    """Print the table and its notes on stdout."""
    print_table(columns(results), rows(results))
    out("", *notes(results))


def markdown(results: Results) -> str:
    """The same as a markdown page."""
    table = markdown_table(columns(results), rows(results))
    return "\n".join([table, "", *(f"- {note}" for note in notes(results))]).replace("*", "\\*") + "\n"


def accuracy_text(percents: list[float]) -> str:
    """Mean and sample standard deviation."""
    return f"{mean(percents):.2f}" + (f" ± {stdev(percents):.2f}" if len(percents) > 1 else "")


def plot(results: Results, folder: Path) -> str:
    """Draw accuracy over file size, if matplotlib is installed; the sentence says which."""
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError:
        return f"No plot: matplotlib is not installed. With it, {PLOT} shows accuracy over file size."
    figure = figures.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="file size (bytes)", ylabel="test accuracy (%)")
    axes.set_title(f"mean and standard deviation, {len(results.percents('dense'))} seeds", fontsize="medium")
    for file in results.files:
        _mark(axes, file, results.percents(file.kind))
    axes.legend()
    with staged(folder / PLOT) as picture:
        figure.savefig(picture, dpi=150)
    return f"{PLOT} shows accuracy over file size."


def _mark(axes: object, file: File, percents: list[float]) -> None:
    spread = stdev(percents) if len(percents) > 1 else 0.0
    axes.errorbar(file.file_bytes, mean(percents), yerr=spread, fmt="o", capsize=3, label=file.name)  # type: ignore[attr-defined]


def _latency_text(latency: Latency) -> str:
    us = latency.median_ns / 1e3
    time = f"{us:,.0f}" if us >= 100 else f"{us:.1f}"
    return time if latency.speed is None else f"{time} ({latency.speed:.3g}x)"
