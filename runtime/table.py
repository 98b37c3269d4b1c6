"""A Record for people: one row per cell, doubts below, and under which conditions it holds."""

import sys
from collections.abc import Iterator
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgefc.runtime.parts import Cell, Ratio
from edgefc.runtime.record import Record

_COLUMNS = ("model", "batch", "threads", "median", "p90", "spread", "load", "first run", "peak memory", "file", "ratio")
_WIDE = 10_000  # columns: nothing is cut or folded; a narrow terminal wraps lines itself


def show(record: Record, file: TextIO | None = None) -> None:
    """Print the record to `file`, stdout when left out."""
    file = file or sys.stdout
    console = Console(file=file, width=_WIDE, highlight=False, markup=False, emoji=False)
    console.print(_table(record))
    for line in (*_doubts(record), *_caption(record)):
        console.print(Text(line))


def _table(record: Record) -> Table:
    table = Table(box=box.SIMPLE)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "model" else "right", overflow="fold")
    for cell in record.cells:
        table.add_row(*map(Text, _row(record, cell)))
    return table


def _row(record: Record, cell: Cell) -> Iterator[str]:
    steady = cell.steady
    yield name_of(record, cell.model) + ("*" if cell.doubts else "")
    yield str(cell.batch)
    yield str(cell.threads)
    yield time_text(steady.median_ns)
    yield time_text(steady.p90_ns)
    yield f"{steady.rel_mad:.1%}"
    yield time_text(cell.load.median_ns)
    yield time_text(cell.first.median_ns)
    yield "-" if cell.peak_above_baseline_bytes is None else bytes_text(cell.peak_above_baseline_bytes)
    yield bytes_text(record.models[cell.model].all_bytes)
    yield _ratio_text(next((r for r in record.ratios if _same(r, cell)), None))


def name_of(record: Record, model: int) -> str:
    """The file's name, and what this model was given apart from the others: "m.onnx native=off"."""
    own = record.config.model_settings[model]
    return " ".join([record.models[model].name, *(f"{name}={value}" for name, value in own.items())])


def _same(ratio: Ratio, cell: Cell) -> bool:
    return (ratio.model, ratio.threads, ratio.batch) == (cell.model, cell.threads, cell.batch)


def _ratio_text(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    interval = "" if ratio.low is None else f" [{ratio.low:.3g}, {ratio.high:.3g}]"
    return f"{ratio.median:.3g}x{interval}"


def _doubts(record: Record) -> Iterator[str]:
    for cell in record.cells:
        for doubt in cell.doubts:
            yield f"* {name_of(record, cell.model)}, batch {cell.batch}, {_threads(cell.threads)}: {doubt}"


def _caption(record: Record) -> Iterator[str]:
    env, config = record.environment, record.config
    kind = ", emulated" if env.emulated else ", virtual" if env.virtual else ""
    yield (
        f"{env.machine}, {env.cpu or 'unknown CPU'}, {env.cores} cores{kind}; "
        f"onnxruntime {env.onnxruntime}, numpy {env.numpy}, Python {env.python}, edgefc {env.edgefc}; "
        f"preset {config.preset}{_settings(config.settings)}; inputs {config.inputs}"
    )
    yield "median, p90, spread: of one run in the steady state; spread is the median deviation from the median"
    for base in record.baselines:
        peak = "" if base.peak_bytes is None else f" and {bytes_text(base.peak_bytes)}, which peak memory is above"
        yield f"with {_threads(base.threads)}, a model that does nothing takes {time_text(base.steady.median_ns)}{peak}"
    for variant in sorted({cell.native for cell in record.cells if cell.native}):
        names = ", ".join(sorted({name_of(record, cell.model) for cell in record.cells if cell.native == variant}))
        yield f"native kernels ({variant}) were loaded with {names}"
    if record.ratios:
        yield f"ratio: time over that of {name_of(record, 0)} in the same rounds, with a 95 % interval"
    yield from sorted({f"no memory: {cell.memory_missing}" for cell in record.cells if cell.memory_missing})


def _settings(settings: dict[str, str | bool | int]) -> str:
    return f" ({', '.join(f'{name}={value}' for name, value in settings.items())})" if settings else ""


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


def time_text(ns: float) -> str:
    """Three digits with a unit; 'us' is plain ASCII on purpose."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{_three(ns / size)} {unit}"
    return f"{ns:.0f} ns"


def bytes_text(count: int) -> str:
    """In powers of ten, as files are listed."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{_three(count / size)} {unit}"
    return f"{count} B"


def _three(value: float) -> str:
    return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}"
