"""The table of the demo: a row for each file, with its size, its likeness to the original, and its costs."""

from collections.abc import Sequence

from edgefc.demo.likeness import NEAREST, Likeness
from edgefc.runtime import Record
from edgefc.runtime.profiling.table import bytes_text, machine_text, name_of, time_text

COLUMNS = ("file", "bytes", "ratio", "mean cosine", f"same {NEAREST} nearest", "load", "peak memory", "latency")


def rows(record: Record, found: Sequence[Likeness]) -> list[list[str]]:
    """The cells of COLUMNS for each file of the record. `found` has the likeness of each."""
    first = record.models[0].all_bytes
    result = []
    for cell in record.cells:
        size, own = record.models[cell.model].all_bytes, found[cell.model]
        peak = cell.peak_above_baseline_bytes
        result.append([
            f"{name_of(record, cell.model)}{'*' if cell.warnings else ''}", f"{size:,}", f"{first / size:.2f}x",
            f"{own.cosine:.4f}", f"{own.neighbours:.1%}", time_text(cell.load.median_ns),
            "-" if peak is None else bytes_text(peak), time_text(cell.steady.median_ns),
        ])  # fmt: skip
    return result


def captions(record: Record, sentences: int) -> list[str]:
    """What the columns mean, and how the files were measured."""
    env, cell = record.environment, record.cells[0]
    fed = ", ".join(map(str, cell.inputs or ()))
    variants = sorted({each.native_variant for each in record.cells if each.native_variant})
    return [
        *(f"* {name_of(record, each.model)}: {warning}" for each in record.cells for warning in each.warnings),
        f"ratio: the bytes of {name_of(record, 0)} divided by those of the file",
        f"mean cosine: of the vectors of {sentences} test sentences to those of the original torch model; "
        f"same {NEAREST} nearest: the part of the {NEAREST} nearest sentences that stay the same",
        "load, peak memory, latency: medians for batch 1, one thread, inputs "
        f"{fed}; peak memory is above that of a model that does nothing",
        f"{machine_text(env, emulated=record.device.emulated)}; onnxruntime {env.onnxruntime}, edgefc {env.edgefc}"
        + (f", native kernels ({', '.join(variants)})" if variants else ""),
    ]


def markdown(table: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """The rows and the notes as a page."""
    lines = [COLUMNS, ["---", *["---:"] * (len(COLUMNS) - 1)], *table]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", *(f"- {note}" for note in notes)]) + "\n"
