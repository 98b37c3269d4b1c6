"""Check the speed targets of the native kernels: read records of edgefc bench and print each target.

    edgefc bench --n 1024,4096 --batch 1,16,64 --layers int8,int4,circulantlinear,prp,"eugen order 1" --json a.json
    edgefc bench --n 768,1000,1009,3072 --batch 1,64 --layers circulantlinear --json b.json
    edgefc bench --n 2048 --batch 1 --layers tied --json c.json
    edgefc bench --n 8192 --batch 1 --layers "prp rademacher" --json d.json
    edgefc bench --n 4096 --batch 1,16,64 --layers circulantlinear,rademacher,gaussian --threads 2 --json e.json
    python tests/bench/targets.py a.json b.json c.json d.json e.json

Ratios compare two layers in the same rounds of one run. This script measures the circulant layer against torch's FFT.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import torch

import edgefc
from edgefc.bench.record import NATIVE_INT8, BenchRecord, Row
from edgefc.bench.table import conditions
from edgefc.errors import EdgefcError
from edgefc.export import export
from edgefc.runtime import Session
from edgefc.runtime.probes import stats
from edgefc.tables import print_table

PRP, GAUSSIAN, CIRCULANT = "PRPLinear rademacher", "PRPLinear gaussian", "CirculantLinear"
INT8_INPUT = NATIVE_INT8
DENSE, INT8, INT4, PORTABLE = "dense fp32", "int8 dynamic", "int4 MatMulNBits", "its own body"
EDGES = tuple((n, batch) for n in (768, 1000, 3072, 1009) for batch in (1, 64))
FFT_MOST, FFT_ROUNDS, FFT_RUNS = 2.5, 15, 20
MOST_HELD_BYTES, MOST_LOAD_NS, LEAST_THREADS = 4 << 20, 20e6, 1.7


@dataclass(frozen=True)
class Target:
    """The target that `layer` is at least `least` times as fast as `over`."""

    layer: str
    n: int
    batch: int
    over: str
    least: float
    kernel: str = "native"


TARGETS = (
    Target(PRP, 4096, 1, DENSE, 12), Target(PRP, 4096, 1, INT4, 1.4), Target(PRP, 4096, 1, INT4, 2, INT8_INPUT),
    Target(PRP, 1024, 1, DENSE, 4), Target(PRP, 1024, 1, INT8, 1.2),
    Target(PRP, 4096, 16, DENSE, 2.5), Target(PRP, 4096, 64, DENSE, 1.5),
    Target(PRP, 4096, 16, INT8, 1, INT8_INPUT), Target(PRP, 4096, 64, INT8, 1, INT8_INPUT),
    Target("PRPLinear ternary", 4096, 1, DENSE, 6), Target(GAUSSIAN, 4096, 1, DENSE, 3.5),
    Target(CIRCULANT, 4096, 1, DENSE, 70), Target(CIRCULANT, 4096, 1, PORTABLE, 1.6),
    *(Target(CIRCULANT, n, batch, over, 1) for n, batch in EDGES for over in (DENSE, PORTABLE)),
    Target("TiedFFN", 2048, 1, f"{DENSE} (for TiedFFN)", 1.7), Target("EUGenLinear order 1", 4096, 1, DENSE, 15),
)  # fmt: skip

Line = tuple[str, str, str, str]


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__)
        return 2
    records = [BenchRecord.read(path) for path in sys.argv[1:]]
    single = [record for record in records if record.config.threads == 1]
    lines = [line(target, single) for target in TARGETS]
    lines += [*memory(single), *threads(records), *(fft(n) for n in (1024, 4096))]
    print_table(("what", "at least", "measured", ""), lines, left=1)
    for text in dict.fromkeys(map(conditions, records)):
        print(text)
    return 0


def line(target: Target, records: list[BenchRecord]) -> Line:
    what = f"{target.layer} ({target.kernel}), n {target.n}, batch {target.batch}, over {target.over}"
    for record in records:
        mine = _row(record, target.layer, target.kernel, target.n, target.batch)
        layer, kernel = (target.layer, "portable") if target.over == PORTABLE else (target.over, "onnxruntime")
        other = _row(record, layer, kernel, target.n, target.batch)
        if mine is not None and other is not None and mine.profile == other.profile:
            return _said(what, f"{target.least:g}x", f"{_over(record, mine, other):.2f}x",
                         _over(record, mine, other) >= target.least)  # fmt: skip
    return what, f"{target.least:g}x", "", "not measured"


def memory(records: list[BenchRecord]) -> Iterator[Line]:
    """The memory and load time of sessions. The minimum of several records is used, because other load only adds."""
    tied = [(_row(r, "TiedFFN", "native", 2048, 1), _row(r, f"{DENSE} (for TiedFFN)", "onnxruntime", 2048, 1))
            for r in records]  # fmt: skip
    part = [a.resident_bytes / b.resident_bytes for a, b in tied if a and b and a.resident_bytes and b.resident_bytes]
    yield _least("TiedFFN (native), n 2048: bytes held, of the dense pair's", part, 0.5, "{:.3f}")
    large = [row for r in records if (row := _row(r, PRP, "native", 8192, 1)) is not None]
    held = [row.resident_bytes / 1e6 for row in large if row.resident_bytes is not None]
    yield _least("PRPLinear (native), n 8192: MB held above an empty session", held, MOST_HELD_BYTES / 1e6, "{:.2f}")
    loads = [row.load_ns / 1e6 for row in large]
    yield _least("PRPLinear (native), n 8192: load, ms", loads, MOST_LOAD_NS / 1e6, "{:.1f}")


def threads(records: list[BenchRecord]) -> Iterator[Line]:
    """Compare two threads with one. The figures are from two runs, at different times."""
    by_count = {count: [r for r in records if r.config.threads == count] for count in (1, 2)}
    for layer, batch in ((PRP, 1), (PRP, 16), (PRP, 64), (GAUSSIAN, 1), (GAUSSIAN, 64), (CIRCULANT, 64)):
        one, two = ([row.median_ns for r in by_count[count] if (row := _row(r, layer, "native", 4096, batch))]
                    for count in (1, 2))  # fmt: skip
        what = f"{layer} (native), n 4096, batch {batch}: two threads over one"
        if one and two:
            yield _said(what, f"{LEAST_THREADS}x", f"{min(one) / min(two):.2f}x", min(one) / min(two) >= LEAST_THREADS)
        else:
            yield what, f"{LEAST_THREADS}x", "", "not measured"


def fft(n: int, batch: int = 64) -> Line:
    """Time the circulant kernel and torch's rfft and irfft alternately, in this process, on one thread."""
    torch.set_num_threads(1)
    x = torch.randn(batch, n)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "circulant.onnx"
        export(edgefc.CirculantLinear(n, n), x, path, verify=False)
        session = Session(path, native="on")
        run = session.bound({session.inputs[0].name: x.numpy()})
        works = (run, lambda: torch.fft.irfft(torch.fft.rfft(x), n=n))
        rounds = [[_median_s(work) for work in works] for _ in range(FFT_ROUNDS)]
    part = median(mine / theirs for mine, theirs in rounds)
    what = f"{CIRCULANT} (native), n {n}, batch {batch}: time, of torch's rfft and irfft"
    return _said(what, f"at most {FFT_MOST}", f"{part:.2f}", part <= FFT_MOST)


def _median_s(work) -> float:
    times = []
    for _ in range(FFT_RUNS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times)


def _row(record: BenchRecord, layer: str, kernel: str, n: int, batch: int) -> Row | None:
    rows = (r for r in record.rows if (r.layer, r.kernel, r.n, r.batch) == (layer, kernel, n, batch))
    return next(rows, None)


def _over(record: BenchRecord, mine: Row, other: Row) -> float:
    """The speedup in the same rounds."""
    cells = record.profiles[mine.profile].cells
    rounds = [[r.samples_ns for r in cells[row.model].steady.rounds] for row in (mine, other)]
    return stats.speed(*rounds, [r.process for r in cells[mine.model].steady.rounds]).median


def _least(what: str, values: list[float], most: float, form: str) -> Line:
    if not values:
        return what, f"at most {most:.3g}", "", "not measured"
    return _said(what, f"at most {most:.3g}", form.format(min(values)), min(values) <= most)


def _said(what: str, wanted: str, measured: str, reached: bool) -> Line:
    return what, wanted, measured, "reached" if reached else "NOT REACHED"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgefcError as error:
        sys.exit(str(error))
