"""Print records as a table: one row per cell, with warnings and the conditions of the measurement below.

A speed compares models on the same device. Rows with times of an emulated processor are marked, and a line below the
table explains the mark.
"""

from collections.abc import Iterator

from edgefc.runtime.profiling.names import numbered
from edgefc.runtime.profiling.parts import Cell, Config, Environment, Speed
from edgefc.runtime.profiling.record import Record
from edgefc.screen import out
from edgefc.tables import print_table

_SPEED = "speed vs first (higher is better)"
_COLUMNS = ("batch", "threads", "median", "p90", "spread", "load", "first run", "peak memory", "file", _SPEED)


def show(*records: Record) -> None:
    """Print the records as one table on stdout."""
    several = _with_device(records)
    rows = [
        ((_device(record), *_row(record, cell)) if several else tuple(_row(record, cell)))
        for record in records
        for cell in record.cells
    ]
    names = ("device", "model") if several else ("model",)
    print_table((*names, *_COLUMNS), rows, left=len(names), keys=len(names) + 2)
    out()
    lines = [line for record in records for line in _warnings(record, _prefix(record, records))]
    lines += [line for record in records for line in _not_compared(record, _prefix(record, records))]
    lines += [line for record in records for line in _caption(record, _prefix(record, records))]
    out(*lines, *_legend(records))


def _with_device(records: tuple[Record, ...]) -> bool:
    return len(records) > 1 or any(record.device.name != "local" for record in records)


def _device(record: Record) -> str:
    return record.device.name + (" (emulated)" if record.device.emulated else "")


def _prefix(record: Record, records: tuple[Record, ...]) -> str:
    return f"{_device(record)}: " if _with_device(records) else ""


def _row(record: Record, cell: Cell) -> Iterator[str]:
    steady = cell.steady
    yield name_of(record, cell.model) + ("*" if cell.warnings else "")
    yield str(cell.batch)
    yield str(cell.threads)
    yield time_text(steady.median_ns)
    yield time_text(steady.p90_ns)
    yield f"{steady.rel_mad:.1%}"
    yield time_text(cell.load.median_ns)
    yield time_text(cell.first.median_ns)
    yield "-" if cell.peak_above_baseline_bytes is None else bytes_text(cell.peak_above_baseline_bytes)
    yield bytes_text(record.models[cell.model].all_bytes)
    yield _speed_text(next((speed for speed in record.speeds if _same(speed, cell)), None))


def name_of(record: Record, model: int) -> str:
    """The file name, and the settings that apply only to this model: "m.onnx native=off".

    If the record has a model twice, the second one is "m.onnx (2)".
    """
    named = [
        " ".join([file.name, *(f"{name}={value}" for name, value in own.items())])
        for file, own in zip(record.models, record.config.model_settings, strict=True)
    ]
    return numbered(named)[model]


def _same(speed: Speed, cell: Cell) -> bool:
    return (speed.model, speed.threads, speed.batch) == (cell.model, cell.threads, cell.batch)


def _speed_text(speed: Speed | None) -> str:
    if speed is None:
        return "-"
    interval = "" if speed.low is None else f" [{speed.low:.3g}, {speed.high:.3g}]"
    return f"{speed.median:.3g}x{interval}"


def _warnings(record: Record, prefix: str) -> Iterator[str]:
    for cell in record.cells:
        for warning in cell.warnings:
            yield f"* {prefix}{name_of(record, cell.model)}, batch {cell.batch}, {_threads(cell.threads)}: {warning}"


def _not_compared(record: Record, prefix: str) -> Iterator[str]:
    """One line for each model, batch and reason, for all thread counts."""
    reasons = {(cell.model, cell.batch): cell.not_compared for cell in record.cells if cell.not_compared is not None}
    for (model, batch), reason in reasons.items():
        yield f"{prefix}{name_of(record, model)}, batch {batch}, has no speed vs first: {reason}"


def _caption(record: Record, prefix: str) -> Iterator[str]:
    env = record.environment
    numpy = f", numpy {env.numpy}, Python {env.python}" if env.numpy and env.python else f", {env.implementation}"
    yield (
        f"{prefix}{machine_text(env, emulated=record.device.emulated)}; "
        f"onnxruntime {env.onnxruntime}{numpy}, edgefc {env.edgefc}; {_config(record.config)}"
    )
    yield from _fed(record, prefix)
    for base in record.baselines:
        peak = (
            "" if base.peak_bytes is None else f" and {bytes_text(base.peak_bytes)}; peak memory is the part above that"
        )
        time = time_text(base.steady.median_ns)
        yield f"{prefix}with {_threads(base.threads)}, a model that does nothing takes {time}{peak}"
    for variant in sorted({cell.native_variant for cell in record.cells if cell.native_variant}):
        names = ", ".join(sorted({name_of(record, c.model) for c in record.cells if c.native_variant == variant}))
        yield f"{prefix}native kernels ({variant}) were loaded with {names}"
    yield from (f"{prefix}{note}" for note in (*_heat(record), *record.device.notes))
    yield from sorted({f"{prefix}no memory: {cell.memory_missing}" for cell in record.cells if cell.memory_missing})
    if record.unfinished is not None:
        yield f"{prefix}unfinished, rows are missing: {record.unfinished}"


def _fed(record: Record, prefix: str) -> Iterator[str]:
    """The shapes of random inputs with integers or more than two axes, because some of their sizes are defaults."""
    if record.config.inputs != "drawn":
        return
    fed: dict[str, list[str]] = {}
    for cell in record.cells:
        if cell.inputs is not None and any(len(one.shape) > 2 or one.dtype.find("int") >= 0 for one in cell.inputs):
            names = fed.setdefault(", ".join(map(str, cell.inputs)), [])
            names += [name for name in [name_of(record, cell.model)] if name not in names]
    for shapes, names in fed.items():
        yield f"{prefix}{', '.join(names)}: inputs {shapes}"


def _heat(record: Record) -> Iterator[str]:
    before, after = record.device.before, record.device.after
    if before and after and before.temperature_c is not None and after.temperature_c is not None:
        waited = f", waited {record.device.waited_s:.0f} s to cool" if record.device.waited_s else ""
        held = ", throttled" if before.throttled or after.throttled else ""
        yield f"{before.temperature_c:.0f} C before, {after.temperature_c:.0f} C after{waited}{held}"
    elif after and after.throttled:
        yield "throttled at the end"


def _legend(records: tuple[Record, ...]) -> Iterator[str]:
    yield "median, p90, spread: of one run in the steady state; spread is the median deviation from the median"
    for first in sorted({name_of(record, 0) for record in records if record.speeds}):
        where = " on the same device" if len(records) > 1 else ""
        yield (
            f"speed vs first: the time of {first} divided by the model's time in the same rounds{where}, "
            "with a 95 % interval; above 1x is faster"
        )
    if any(record.device.emulated for record in records):
        yield "emulated: another processor emulates this one, so the times are not those of a real one"


def _config(config: Config) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in config.settings.items())
    return f"preset {config.preset}{f' ({settings})' if settings else ''}; inputs {config.inputs}{_asked(config)}"


def _asked(config: Config) -> str:
    """The requested shapes and ranges of random inputs."""
    shapes = [f"{n} {'x'.join('?' if s is None else str(s) for s in shape)}" for n, shape in config.shapes.items()]
    ranges = [f"{name} {low} to {high}" for name, (low, high) in config.ranges.items()]
    return f" ({', '.join([*shapes, *ranges])})" if shapes or ranges else ""


def _threads(count: int) -> str:
    return f"{count} thread" if count == 1 else f"{count} threads"


def machine_text(env: Environment, *, emulated: bool = False) -> str:
    """The kind of machine: "x86_64, AMD EPYC, 2 cores, virtual"."""
    kind = ", emulated" if emulated or env.emulated else ", virtual" if env.virtual else ""
    return f"{processor_text(env.machine, env.cpu)}, {env.cores} cores{kind}"


def processor_text(machine: str, cpu: str | None) -> str:
    return f"{machine}, {cpu or 'unknown CPU'}"


def time_text(ns: float) -> str:
    """Three digits with a unit. The unit is 'us' because it is ASCII."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{_three(ns / size)} {unit}"
    return f"{ns:.0f} ns"


def bytes_text(count: int) -> str:
    """Three digits with a unit in powers of ten."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= size:
            return f"{_three(count / size)} {unit}"
    return f"{count} B"


def _three(value: float) -> str:
    return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}"
