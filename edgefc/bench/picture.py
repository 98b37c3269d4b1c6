"""Draw a BenchRecord as a heat map of the speedup over the dense layer.

There is one row per layer and kernel, and one column per size and batch. Blue is faster than dense and orange is slower
(suitable for red-green colour blindness). The number in a cell is the time of the dense layer divided by the time of
this layer. A frame marks the fastest layer of a column. Rows of dense layers show their time. The cell of a layer that
was left out is empty.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from edgefc.bench import table
from edgefc.bench.record import BenchRecord, Row
from edgefc.errors import UsageError
from edgefc.files import staged
from edgefc.runtime.profiling.table import time_text

FORMATS = (".svg", ".png")
_COLOURS = LinearSegmentedColormap.from_list("over dense", ["#b35806", "#f1a340", "#f7f7f7", "#67a9cf", "#053061"])
_EMPTY, _DENSE_CELL = "#ffffff", "#e8e8e8"
_MOST = 64.0  # speedups and slowdowns beyond this factor have the same colour
_DARK = 0.62  # distance from the middle of the colour scale beyond which numbers are white

Key = tuple[str, str, str]
Column = tuple[int, int, int]


def check_format(path: str | Path) -> None:
    """
    Raises:
        UsageError: the name does not end in .svg or .png.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise UsageError(f"cannot draw {path}: its name must end in {' or '.join(FORMATS)}. Give such a name.")


def draw(record: BenchRecord, path: str | Path) -> None:
    """Write the picture as .svg or .png, depending on the name.

    Raises:
        UsageError: the name has another ending, or the file cannot be written.
    """
    check_format(path)
    figure = _figure(record)
    with staged(path) as file:
        figure.savefig(file, dpi=150)


def _figure(record: BenchRecord) -> Figure:
    keys, columns = _axes(record)
    cells = {((row.replaces, row.layer, row.kernel), (row.n, row.m, row.batch)): row for row in record.rows}
    widest = max(len(_label(key)) for key in keys)
    size = (0.085 * widest + 0.78 * len(columns) + 1.6, 0.27 * len(keys) + 2.3)
    figure = Figure(figsize=(max(size[0], 7.5), size[1]), layout="constrained")
    axes = figure.add_subplot()
    for y, key in enumerate(keys):
        for x, column in enumerate(columns):
            _cell(axes, x, y, cells.get((key, column)))
    _frames(axes, record, keys, columns)
    _labels(axes, keys, columns)
    _titles(figure, record)
    _scale(figure, axes)
    return figure


def _axes(record: BenchRecord) -> tuple[list[Key], list[Column]]:
    """The rows in the order of the record, and the columns sorted by size, then batch."""
    keys = dict.fromkeys((row.replaces, row.layer, row.kernel) for row in record.rows)
    columns = {(row.n, row.m, row.batch) for row in record.rows}
    return list(keys), sorted(columns)


def _label(key: Key) -> str:
    _, layer, kernel = key
    return layer if kernel == "onnxruntime" else f"{layer}, {kernel}"


def _cell(axes: Axes, x: int, y: int, row: Row | None) -> None:
    text, ink = "", "#000000"
    colour: Any = _EMPTY
    if row is not None and row.is_dense:
        colour, text = _DENSE_CELL, time_text(row.median_ns)
    elif row is not None:
        at = float(_norm()(min(max(row.speed, 1 / _MOST), _MOST)))
        colour, text = _COLOURS(at), table.speed_text(row.speed)
        ink = "#ffffff" if abs(2 * at - 1) > _DARK else "#000000"
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="#ffffff", linewidth=1))
    axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=7.5, color=ink)


def _norm() -> LogNorm:
    return LogNorm(1 / _MOST, _MOST)


def _frames(axes: Axes, record: BenchRecord, keys: list[Key], columns: list[Column]) -> None:
    """Draw a frame around the fastest layer of each column. A block is compared only with the model it replaces."""
    for rows in record.groups():
        best = table.fastest(rows)
        x = columns.index((best.n, best.m, best.batch))
        y = keys.index((best.replaces, best.layer, best.kernel))
        frame = Rectangle((x + 0.04, y + 0.06), 0.92, 0.88, fill=False, edgecolor="#000000", linewidth=1.8)
        axes.add_patch(frame)


def _labels(axes: Axes, keys: list[Key], columns: list[Column]) -> None:
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(keys), 0)
    axes.set_yticks(np.arange(len(keys)) + 0.5, [_label(key) for key in keys], fontsize=8)
    axes.set_xticks(np.arange(len(columns)) + 0.5, [f"{batch}" for _, _, batch in columns], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    sizes = [(n, m) for n, m, _ in columns]
    for size in dict.fromkeys(sizes):
        first, count = sizes.index(size), sizes.count(size)
        text = f"n = {size[0]}" if size[0] == size[1] else f"{size[0]} to {size[1]}"
        axes.annotate(
            f"{text}\nbatch", (first + count / 2, 0), xytext=(0, 18), textcoords="offset points",
            ha="center", va="bottom", fontsize=8.5,
        )  # fmt: skip
        if first:
            axes.axvline(first, color="#404040", linewidth=1.2)
    for y in range(1, len(keys)):
        if keys[y][0] != keys[y - 1][0]:
            axes.axhline(y, color="#404040", linewidth=1.2)
        elif keys[y][1] != keys[y - 1][1]:
            axes.axhline(y, color="#b0b0b0", linewidth=0.6)


def _titles(figure: Figure, record: BenchRecord) -> None:
    figure.suptitle("Speedup over the dense layer that it replaces", x=0.01, ha="left", fontsize=12, fontweight="bold")
    machine, _, versions = table.conditions(record).partition("; ")
    unreliable = sum(bool(row.warnings) for row in record.rows)
    warnings = f"; {unreliable} of {len(record.rows)} figures unreliable, see the table" if unreliable else ""
    figure.supxlabel(
        f"{machine}\n{versions}; {record.environment.date.date()}\n"
        f"frame: the fastest of a column; grey: a dense layer and its time; medians of one run, float32{warnings}",
        x=0.01, ha="left", fontsize=7, color="#404040",
    )  # fmt: skip


def _scale(figure: Figure, axes: Axes) -> None:
    from matplotlib.cm import ScalarMappable

    mappable: Any = ScalarMappable(_norm(), _COLOURS)
    bar = figure.colorbar(mappable, ax=axes, shrink=0.6, aspect=28, pad=0.02)
    ticks = [1 / 64, 1 / 16, 1 / 4, 1, 4, 16, 64]
    bar.set_ticks(ticks, labels=["64x slower", "16x", "4x", "1", "4x", "16x", "64x faster"], fontsize=7)
    bar.minorticks_off()
    bar.outline.set_visible(False)
