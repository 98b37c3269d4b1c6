"""profile(): what models cost on a device, this machine or another, cell by cell.

A cell is one model at one thread count and one batch size. Everything runs in processes of their own where the
runner has them (runner.py): load and first run in several fresh ones, memory in one that times nothing, and steady
state in several, in each of which all models of the cell take turns. The null model goes through the same probes once
per thread count.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median_low
from typing import Any, TypeVar

from edgefc.errors import renamed
from edgefc.progress import Bar
from edgefc.runtime.inputs import Ranges, Shapes, Wanted
from edgefc.runtime.probes.contracts import (
    LoadAnswer,
    LoadQuestion,
    MemoryQuestion,
    Plan,
    Question,
    SteadyQuestion,
    Tried,
)
from edgefc.runtime.profiling import warnings
from edgefc.runtime.profiling.derive import fed_of, launches_of, not_compared, speeds_of, steady_of
from edgefc.runtime.profiling.names import distinct
from edgefc.runtime.profiling.parts import (
    Baseline,
    Cell,
    Config,
    Heap,
    Launches,
    Memory,
    Speed,
    Steady,
)
from edgefc.runtime.profiling.record import SCHEMA_VERSION, Record
from edgefc.runtime.profiling.request import (
    Counts,
    Inputs,
    Paths,
    Request,
    batches_of,
    config_of,
    counts,
    inputs_file,
    model_file,
    models_of,
    options_of,
    ranges_of,
    seconds,
    shapes_of,
)
from edgefc.runtime.profiling.runner import Local, Opened, Runner
from edgefc.runtime.profiling.staging import Placed, Places, checked, null_file, placed
from edgefc.runtime.session import other_versions

A = TypeVar("A")
Keep = Callable[[Record], None]

NULL_LAUNCHES = 3  # their difference is the noise of the memory measurement
LAUNCHING_S = 30.0  # no further launch of a cell begins after this


def profile(
    paths: Paths, *, device: str | Runner = "local", batch: Counts | None = None, threads: Counts = 1,
    preset: str = "latency", inputs: Inputs = None, shapes: Shapes | None = None, ranges: Ranges | None = None,
    min_time_s: float = 1.0, processes: int = 6, rounds: int = 4, samples: int = 5000, launches: int = 5,
    memory: bool = True, progress: bool | None = None, native: str = "auto", activation_dtype: str = "float32",
    activations: str | None = None, keep: Keep | None = None,
) -> Record:  # fmt: skip
    """Measure every combination of models, thread counts and batch sizes.

        profile(["dense.onnx", "circulant.onnx"], batch=[1, 64]).speeds
        profile("bert.onnx", shapes={"input_ids": (1, 128)}, ranges={"input_ids": (0, 30521)})

    Models whose inputs have other shapes than those of the first are not compared with it: Cell.not_compared.

    Args:
        paths: files, or Models where one has settings of its own.
        device: "local", or a device's name as `edgefc devices` lists it, or a Runner, which is closed at the end.
        batch: the size of open first dimensions, 1 when left out; not with inputs.
        inputs: an .npz file or arrays by input name; drawn from the signature when left out (inputs.py says how).
        shapes: of drawn inputs by name, one size per axis; None leaves an axis to the batch, or to its default.
        ranges: of the values of drawn inputs by name: the lowest and the highest, both included.
        min_time_s: the time spent timing each cell, shared out over `processes`, and in each over `rounds` turns.
        samples: about how many timings to keep of each cell.
        launches: fresh processes for load time and first run.
        progress: a bar on stderr; when left out, if that is a terminal.
        native: "auto", "on" or "off": whether the native kernels are loaded, as for Session.
        activation_dtype: "float32" or "int8", as for Session; activations is its old name.
        keep: called with what is finished, a Record that is `unfinished`, after each batch size.

    Raises:
        UsageError: an argument or an input does not fit a model.
        ModelError: a model does not load or run; the sentence names it.
        DeviceError: the device cannot be reached, was lost, or returned an invalid answer.
    """
    activation_dtype = renamed("activations", activations, "activation_dtype", activation_dtype)
    request = Request(
        models=models_of(paths), batches=batches_of(batch, inputs), threads=counts("threads", threads),
        options=options_of(preset, native, counts("threads", threads), activation_dtype),
        wanted=Wanted(shapes=shapes_of(shapes, inputs), ranges=ranges_of(ranges, inputs)), time_ns=seconds(min_time_s),
        processes=counts("processes", processes)[0], rounds=counts("rounds", rounds)[0],
        samples=counts("samples", samples)[0], launches=counts("launches", launches)[0], memory=memory,
    )  # fmt: skip
    with inputs_file(inputs) as (path, called), null_file() as null, Opened(_runner(device)) as runner:
        request = replace(request, wanted=replace(request.wanted, path=path))
        with _bar(request, progress, runner) as bar:
            bar.set_postfix_str("looking at the models")
            places = placed(runner, request, null)
            tried = checked(runner, request, places)
            config = config_of(request, called, [row[0].batch for row in tried])
            return _Profiler(request, config, tried, (runner, places, bar), keep).record()


def _runner(device: str | Runner) -> Runner:
    if not isinstance(device, str):
        return device
    if device == "local":
        return Local()
    from edgefc.devices.connect import connect  # above this room: only a device that is asked for loads it

    return connect(device)


class _Profiler:
    """One call of profile(), under way."""

    def __init__(
        self, request: Request, config: Config, tried: tuple[tuple[Tried, ...], ...], where: tuple[Runner, Places, Any],
        keep: Keep | None,
    ) -> None:  # fmt: skip
        self.request, self.config, self.tried, self.keep = request, config, tried, keep
        self.runner, self.places, self.bar = where
        paths = [str(model.path) for model in request.models]
        names = distinct(paths)
        self.files = [model_file(path, name) for path, name in zip(paths, names, strict=True)]
        self.versions = [other_versions(Path(model.path)) for model in request.models]
        self.environment = self.runner.environment()
        self.baselines: list[Baseline] = []
        self.done: list[Cell] = []
        self.speeds: list[Speed] = []

    def record(self) -> Record:
        for threads in self.request.threads:
            self.baselines.append(self.baseline(threads))
            for asked, tried in zip(self.request.batches, self.tried, strict=True):
                these = self.cells(asked, tried, self.baselines[-1])
                self.done += these
                self.speeds += speeds_of(these)
                if self.keep is not None:
                    self.keep(self.so_far("it was still under way"))
        return self.so_far(None)

    def so_far(self, unfinished: str | None) -> Record:
        return Record(
            schema_version=SCHEMA_VERSION, device=self.runner.device(), environment=self.environment,
            config=self.config, models=tuple(self.files), baselines=tuple(self.baselines), cells=tuple(self.done),
            speeds=tuple(self.speeds), unfinished=unfinished,
        )  # fmt: skip

    def baseline(self, threads: int) -> Baseline:
        null = self.places.null
        steady = self.steady([null], Wanted(batch=1), threads)[0]
        found = [self.memory(null, Wanted(batch=1), threads)[0] for _ in range(NULL_LAUNCHES * self.request.memory)]
        memory = [m for m in found if m is not None]
        peak = median_low([m.peak_bytes for m in memory]) if memory else None
        return Baseline(threads=threads, steady=steady, memory=tuple(memory), peak_bytes=peak)

    def cells(self, asked: int | None, tried: Sequence[Tried], baseline: Baseline) -> list[Cell]:
        """One per model, timed together."""
        wanted = replace(self.places.wanted, batch=asked)
        steadies = self.steady(self.places.models, wanted, baseline.threads)
        return [self.cell(index, tried, wanted, steady, baseline) for index, steady in enumerate(steadies)]

    def cell(self, index: int, tried: Sequence[Tried], wanted: Wanted, steady: Steady, baseline: Baseline) -> Cell:
        model, file, fed = self.places.models[index], self.files[index], fed_of(tried[index])
        load, first, variant = self.launches(model, wanted, baseline.threads)
        asked = self.request.memory
        memory, missing, heap = self.memory(model, wanted, baseline.threads) if asked else (None, "not asked for", None)
        above = None if memory is None or baseline.peak_bytes is None else memory.peak_bytes - baseline.peak_bytes
        doubtful = warnings.of_machine(self.environment.emulated)
        doubtful += warnings.of_versions(self.versions[index] if self.asks_for_kernels(index) else None)
        doubtful += warnings.of_steady(steady, baseline.steady.median_ns)
        doubtful += warnings.of_launches(load.samples_ns, self.request.launches)
        if memory is not None and above is not None:
            peaks = [m.peak_bytes for m in baseline.memory]
            doubtful += warnings.of_memory(memory, above, max(peaks) - min(peaks), file.file_bytes)
        return Cell(
            model=index, threads=baseline.threads, batch=tried[index].batch, inputs=fed, native_variant=variant,
            load=load, first=first, steady=steady, memory=memory, memory_missing=missing, heap=heap,
            peak_above_baseline_bytes=above, not_compared=not_compared(fed_of(tried[0]), fed),
            warnings=tuple(doubtful),
        )  # fmt: skip

    def asks_for_kernels(self, index: int) -> bool:
        return self.places.models[index].to_run.options.native != "off"

    def steady(self, models: Sequence[Placed], wanted: Wanted, threads: int) -> list[Steady]:
        """One per model, each from all processes.

        Being loaded first or second alone can change a time by 5 %, so each process loads another model first.
        """
        asked, share = self.request, self.request.processes
        plan = Plan(asked.time_ns // share, asked.rounds, max(1, asked.samples // share))
        indices, about = range(len(models)), ", ".join(model.name for model in models)
        orders = [sorted(indices, key=lambda index: (index + process) % len(models)) for process in range(share)]
        doing = "timing " + (f"{len(models)} models in turn" if len(models) > 1 else Path(about).name)
        questions = [SteadyQuestion(tuple(models[i].at(threads) for i in order), wanted, plan) for order in orders]
        answers = [self.ask(question, doing, about) for question in questions]
        return [steady_of(answers, [order.index(index) for order in orders]) for index in indices]

    def launches(self, model: Placed, wanted: Wanted, threads: int) -> tuple[Launches, Launches, str | None]:
        """Load times, times of the first run, and the native kernels that were loaded."""
        found: list[LoadAnswer] = []
        start = time.monotonic()
        for _ in range(self.request.launches):
            if not found or time.monotonic() - start < LAUNCHING_S:
                question = LoadQuestion(model.at(threads), wanted)
                found.append(self.ask(question, f"loading {Path(model.name).name}", model.name))
            else:
                self.bar.update()
        load, first = [launch.load_ns for launch in found], [launch.first_ns for launch in found]
        return launches_of(load), launches_of(first), found[0].used_native

    def memory(self, model: Placed, wanted: Wanted, threads: int) -> tuple[Memory | None, str | None, Heap | None]:
        """What it held, or why that is not known; and the heap of a browser, which tells that instead."""
        question = MemoryQuestion(model.at(threads), wanted)
        found = self.ask(question, f"memory of {Path(model.name).name}", model.name)
        memory = None if found.memory is None else Memory.of(found.memory)
        return memory, found.missing, None if found.heap is None else Heap.of(found.heap)

    def ask(self, question: Question[A], doing: str, about: str) -> A:
        self.bar.set_postfix_str(doing)
        found = self.runner.ask(question, about=about)
        self.bar.update()
        return found


@contextmanager
def _bar(request: Request, progress: bool | None, runner: Runner) -> Iterator[Any]:
    """A tick per child process."""
    memory = int(request.memory)
    each_cell = len(request.models) * (request.launches + memory) + request.processes
    total = len(request.threads) * (request.processes + NULL_LAUNCHES * memory + len(request.batches) * each_cell)
    hidden = None if progress is None else not progress
    with Bar(total=total, unit="process", desc=runner.name, leave=False, disable=hidden) as bar:
        yield bar
