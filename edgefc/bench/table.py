"""Print a BenchRecord: one table per size and batch, the fastest layer first, and the conditions of the measurement."""

from collections.abc import Iterator, Sequence

from edgefc.bench.record import BenchRecord, LeftOut, Row
from edgefc.runtime.profiling.table import bytes_text, machine_text, time_text
from edgefc.screen import out
from edgefc.tables import print_table

_COLUMNS = (
    "layer", "kernel", "", "time", "error", "over dense", "GB/s", "of limit", "GFLOP/s", "of limit", "stored",
    "held", "load",
)  # fmt: skip
_LEFT, _KEYS = 3, 2
BEST, SLOWER, DENSE = "fastest", "slower than dense", "dense"


def show(record: BenchRecord) -> None:
    """Print the record on stdout. The summary comes last."""
    for rows in record.groups():
        out("", f"{size_text(rows[0])}, {threads_text(record)}", "")
        cells = [_cells(row, rows, record) for row in sorted(rows, key=lambda row: row.median_ns)]
        print_table(_COLUMNS, cells, left=_LEFT, keys=_KEYS)
    out("", *_left_out(record), *_warnings(record), *_caption(record), *_notes(record))
    out("", *map(winner, record.groups()))


def size_text(row: Row) -> str:
    size = f"n = m = {row.n}" if row.n == row.m else f"{row.n} inputs, {row.m} outputs"
    return f"{size}, batch {row.batch}, compared with {row.replaces}"


def threads_text(record: BenchRecord) -> str:
    threads = record.config.threads
    return "1 thread" if threads == 1 else f"{threads} threads"


def fastest(rows: Sequence[Row]) -> Row:
    return min(rows, key=lambda row: row.median_ns)


def winner(rows: Sequence[Row]) -> str:
    """A sentence about the fastest layer at one size and batch."""
    best, smallest = fastest(rows), min(rows, key=lambda row: (row.weight_bytes, row.median_ns))
    size = f"{rows[0].n} to {rows[0].m}, batch {best.batch}"
    dense = next(row for row in rows if row.is_dense)
    if best.is_dense or (best.speed_low or best.speed) < 1:
        near = min((row for row in rows if not row.is_dense), key=lambda row: row.median_ns, default=dense)
        also = (
            ""
            if near.is_dense
            else f"; the fastest other layer is {near.layer} ({near.kernel}), {speed_text(near.speed)}"
        )
        return f"{size}: nothing is faster than {dense.layer}, {time_text(dense.median_ns)}{also}"
    least = "" if smallest.layer == best.layer else (
        f"; the fewest bytes stored: {smallest.layer}, {bytes_text(smallest.weight_bytes)}"
    )  # fmt: skip
    return f"{size}: {best.layer} ({best.kernel}) is the fastest, {speed_text(best.speed)} over {best.replaces}{least}"


def speed_text(speed: float) -> str:
    return f"{speed:.{2 if speed < 10 else 1 if speed < 100 else 0}f}x"


def _cells(row: Row, rows: Sequence[Row], record: BenchRecord) -> tuple[str, ...]:
    limits = record.limits
    mark = DENSE if row.is_dense else BEST if row is fastest(rows) else SLOWER if _slower(row) else ""
    interval = "" if row.speed_low is None else f" [{row.speed_low:.3g}, {row.speed_high:.3g}]"
    return (
        row.layer + ("*" if row.warnings else ""), row.kernel, mark, time_text(row.median_ns), f"{row.nmse:.0e}",
        "1" if row.is_dense else speed_text(row.speed) + interval,
        f"{row.bytes_per_s / 1e9:.3g}", f"{row.bytes_per_s / limits.read_bytes_per_s:.0%}",
        f"{row.operations_per_s / 1e9:.3g}", f"{row.operations_per_s / limits.operations_per_s:.0%}",
        bytes_text(row.weight_bytes), "-" if row.resident_bytes is None else bytes_text(row.resident_bytes),
        time_text(row.load_ns),
    )  # fmt: skip


def _slower(row: Row) -> bool:
    """Whether a layer is slower than dense, including the upper end of the interval if there is one."""
    return (row.speed if row.speed_high is None else row.speed_high) < 1


def _left_out(record: BenchRecord) -> Iterator[str]:
    """One line per reason."""
    by_reason: dict[str, list[LeftOut]] = {}
    for each in record.left_out:
        by_reason.setdefault(each.reason, []).append(each)
    for reason, which in by_reason.items():
        names = dict.fromkeys(w.layer if w.kernel is None else f"{w.layer} ({w.kernel})" for w in which)
        where = dict.fromkeys(f"{w.n} to {w.m}" + ("" if w.batch is None else f", batch {w.batch}") for w in which)
        yield f"left out: {', '.join(names)}, at {'; '.join(where)}: {reason}"


def _warnings(record: BenchRecord) -> Iterator[str]:
    """The first warning, and the number of rows with warnings."""
    rows = [row for row in record.rows if row.warnings]
    if rows:
        row = rows[0]
        yield (
            f"* figures unreliable: {len(rows)} of {len(record.rows)}, such as {row.layer} ({row.kernel}), "
            f"{row.n} to {row.m}, batch {row.batch}: {row.warnings[0]}"
        )


def _notes(record: BenchRecord) -> Iterator[str]:
    yield from dict.fromkeys(f"{row.layer} at {row.n} to {row.m}: {row.note}" for row in record.rows if row.note)
    if record.unfinished:
        yield f"unfinished: {record.unfinished}"


def conditions(record: BenchRecord) -> str:
    env = record.environment
    return (
        f"{machine_text(env)}; {threads_text(record)}; "
        f"onnxruntime {env.onnxruntime}, torch {record.torch}, edgefc {env.edgefc}"
    )


def _caption(record: BenchRecord) -> Iterator[str]:
    limits = record.limits
    by = f"native loops, {limits.variant}" if limits.source == "native" else "numpy, which chooses its own threads"
    yield conditions(record)
    yield (
        f"limits, measured with {threads_text(record)} ({by}): "
        f"reading memory {limits.read_bytes_per_s / 1e9:.3g} GB/s, "
        f"multiply-adds {limits.operations_per_s / 1e9:.4g} GFLOP/s"
    )
    variants = {cell.native_variant for profile in record.profiles for cell in profile.cells if cell.native_variant}
    if variants:
        yield f"native kernels: {', '.join(sorted(variants))}"
    yield "time: median of one run; over dense: speedup over the dense layer in the same rounds, with a 95 % interval"
    yield "error: normalised mean squared error of the output against the same product in float64, before timing"
    yield "This compares speed and memory only. To measure the accuracy of a layer, train with it: edgefc recipe."
