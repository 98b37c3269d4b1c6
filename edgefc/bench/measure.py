"""bench(): time all layers of one size in one run, interleaved, so that other load affects all of them."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import torch

from edgefc import temporary
from edgefc.bench import plan
from edgefc.bench.check import Check
from edgefc.bench.limits import limits
from edgefc.bench.make import Made
from edgefc.bench.models import Competitor
from edgefc.bench.plan import Case
from edgefc.bench.record import SCHEMA_VERSION, BenchConfig, BenchRecord, LeftOut, Row
from edgefc.errors import CheckFailed, EdgefcError, UsageError
from edgefc.progress import Bar
from edgefc.runtime import profile
from edgefc.runtime.probes.machine import environment
from edgefc.runtime.profiling.parts import Cell, Environment, Memory
from edgefc.runtime.profiling.record import Record
from edgefc.runtime.profiling.request import seconds

SIZES, BATCHES, TIME_S = (1024, 4096), (1, 64), 0.2
PROCESSES, ROUNDS, SAMPLES = 2, 5, 200
FLOAT_BYTES = 4

Keep = Callable[[BenchRecord], None]
Loads = dict[int, tuple[int | None, int | None, float]]
"""By model index: bytes after loading and after a run, beyond those of the null model, and the time of one load, ns."""


def bench(
    n: Sequence[int] = SIZES, batch: Sequence[int] = BATCHES, *, m: Sequence[int] | None = None,
    layers: Sequence[str] | None = None, threads: int = 1, time_s: float = TIME_S, keep: Keep | None = None,
    progress: bool | None = None,
) -> BenchRecord:  # fmt: skip
    """Measure dense, quantised, low-rank and structured layers of n inputs and m outputs in the same run.

        bench([1024], [1, 64], layers=["circulant", "int4"]).rows

    Args:
        n: input sizes.
        batch: batch sizes.
        m: output sizes: one for all n, or one for each n. Default: n. Blocks such as TiedFFN use n and their own width.
        layers: names or parts of names; plan.known() lists the names. Default: all. The dense layer always runs.
        threads: number of onnxruntime threads.
        time_s: the time spent timing each row, s.
        keep: called after each size and batch with the record so far, whose `unfinished` is set.
        progress: whether to show a bar on stderr. Default: if stderr is a terminal.

    Raises:
        UsageError: sizes, names, threads or the time are invalid, or the models do not fit memory or the disk.
        CheckFailed: nothing could be measured. The message gives the reason.
    """
    sizes = _sizes(n, m)
    competitors, entries = plan.chosen(layers)
    for what, given in (("batch", batch), ("threads", [threads])):
        _check_counts(what, given)
    config = BenchConfig(
        sizes=sizes, batches=tuple(batch), layers=None if layers is None else tuple(layers), threads=threads,
        time_ns=seconds(time_s),
    )  # fmt: skip
    plan.check_room(sizes, environment()["memory_bytes"])
    return _Bench(
        config, plan.cases(sizes, competitors, entries, named=layers is not None), time_s, keep, progress
    ).record()


def _sizes(n: Sequence[int], m: Sequence[int] | None) -> tuple[tuple[int, int], ...]:
    """The (n, m) pairs without duplicates."""
    _check_counts("n", n)
    if m is None:
        m = n
    _check_counts("m", m)
    if len(m) not in (1, len(n)):
        raise UsageError(f"n has {len(n)} sizes and m has {len(m)}. Give one m for all, or one for each n.")
    pairs = zip(n, m if len(m) == len(n) else list(m) * len(n), strict=True)
    return tuple(dict.fromkeys(pairs))


def _check_counts(name: str, given: Sequence[int]) -> None:
    if not given or any(isinstance(c, bool) or not isinstance(c, int) or c < 1 for c in given):
        raise UsageError(f"{name} is {list(given)!r}. Give positive integers.")


class _Bench:
    """The state of one call of bench()."""

    def __init__(
        self, config: BenchConfig, cases: list[Case], time_s: float, keep: Keep | None, progress: bool | None
    ) -> None:
        self.config, self.cases, self.time_s, self.keep = config, cases, time_s, keep
        self.progress, self.silent = progress, None if progress is None else not progress
        self.rows: list[Row] = []
        self.left_out: list[LeftOut] = []
        self.profiles: list[Record] = []
        self.environment = Environment(**environment())
        self.limits = limits(config.threads)

    def record(self) -> BenchRecord:
        for case, bar in self._bars():
            with temporary.folder("edgefc-bench-") as folder:
                bar.set_postfix_str("writing and checking the models")
                check = Check(case.n, self.config.batches, self.config.threads)
                made = Made(case, folder, check, bar.update)
                self.left_out += made.left_out
                held: Loads = {}
                for index, batch in enumerate(self.config.batches if made.competitors else ()):
                    bar.set_postfix_str(f"batch {batch}, {len(made.competitors)} models in turns")
                    held = self._cell(case, made.competitors, index, held)
                    bar.update(len(made.competitors))
        if not self.rows:
            raise CheckFailed(f"nothing was measured: {self.left_out[0].reason}")
        self.limits = self.limits.joined(limits(self.config.threads))
        return self.so_far(None)

    def so_far(self, unfinished: str | None) -> BenchRecord:
        return BenchRecord(
            schema_version=SCHEMA_VERSION, environment=self.environment, torch=torch.__version__, config=self.config,
            limits=self.limits, rows=tuple(self.rows), left_out=tuple(self.left_out), profiles=tuple(self.profiles),
            unfinished=unfinished,
        )  # fmt: skip

    def _cell(self, case: Case, competitors: list[Competitor], index: int, held: Loads) -> Loads:
        """Measure all competitors at one batch size. Memory and load time do not depend on the batch size, and are
        measured only at the first."""
        batch = self.config.batches[index]
        try:
            record = profile(
                [each.model for each in competitors], batch=batch, threads=self.config.threads, native="off",
                min_time_s=self.time_s, processes=PROCESSES, rounds=ROUNDS, samples=SAMPLES, launches=1,
                memory=not held, progress=self.progress,
            )  # fmt: skip
        except EdgefcError as error:
            what = "all" if case.block is None else plan.name_of(case.block)
            self.left_out.append(LeftOut(layer=what, kernel=None, n=case.n, m=case.m, batch=batch, reason=str(error)))
            return held
        held = held or {cell.model: (*_held(cell, record), cell.load.median_ns) for cell in record.cells}
        self.profiles.append(record)
        errors = [competitor.errors[index] for competitor in competitors]
        self.rows += _rows(case, competitors, errors, record, len(self.profiles) - 1, held)
        if self.keep is not None:
            self.keep(self.so_far("the benchmark was still running"))
        return held

    def _bars(self) -> Iterator[tuple[Case, Any]]:
        """Each case with the bar, which ticks once per layer that is written and once per row."""
        counts = [len(c.competitors) + len(c.entries) + 2 + len(self.config.batches) * _about(c) for c in self.cases]
        with Bar(total=sum(counts), unit="layer", leave=False, disable=self.silent) as bar:
            done = 0
            for case, count in zip(self.cases, counts, strict=True):
                bar.set_description(f"{case.n} to {case.m}" if case.block is None else plan.name_of(case.block))
                yield case, bar
                done += count
                bar.update(done - bar.n)


def _about(case: Case) -> int:
    return 1 + len(case.competitors) + 2 * len(case.entries) + 2 * (case.block is not None)


def _rows(
    case: Case, competitors: list[Competitor], errors: list[float], record: Record, profiled: int, held: Loads
) -> Iterator[Row]:
    speeds = {speed.model: speed for speed in record.speeds}
    for cell, competitor, error in zip(record.cells, competitors, errors, strict=True):
        speed, (loaded, resident, load_ns) = speeds.get(cell.model), held[cell.model]
        yield Row(
            layer=competitor.layer, kernel=competitor.kernel, replaces=competitors[0].layer,
            is_dense=competitor is competitors[0],
            n=case.n, m=case.m, batch=cell.batch, profile=profiled, model=cell.model,
            median_ns=cell.steady.median_ns, nmse=error, speed=1.0 if speed is None else speed.median,
            speed_low=None if speed is None else speed.low, speed_high=None if speed is None else speed.high,
            bytes_per_run=competitor.weight_bytes + FLOAT_BYTES * cell.batch * (case.n + case.m),
            operations_per_run=2 * cell.batch * competitor.multiply_adds, weight_bytes=competitor.weight_bytes,
            loaded_bytes=loaded, resident_bytes=resident, load_ns=load_ns, note=competitor.note, warnings=cell.warnings,
        )  # fmt: skip


def _held(cell: Cell, record: Record) -> tuple[int | None, int | None]:
    """Bytes held after loading and after a run, beyond those of the null model."""
    null = [_added(memory) for memory in record.baselines[0].memory]
    if cell.memory is None or not null:
        return None, None
    loaded, ran = (round(mine - median(others)) for mine, *others in zip(_added(cell.memory), *null, strict=True))
    return loaded, ran


def _added(memory: Memory) -> tuple[int, int]:
    """Bytes that loading added to the process, and that loading and a run added."""
    imported, loaded, ran = (
        stage.anonymous_bytes + stage.file_bytes for stage in (memory.imported, memory.loaded, memory.ran)
    )
    return loaded - imported, ran - imported
