"""profile(): measure latency and memory of models on this machine or another device, cell by cell.

A cell is one model at one thread count and one batch size. Each measurement runs in a new process, if the runner has
processes (runner.py): load and first run in several, memory in one that times nothing, and steady state in several. In
each process for the steady state, all models of one batch size run in turn. The null model is measured once per thread
count, without load times.
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
    Trial,
)
from edgefc.runtime.profiling import warnings
from edgefc.runtime.profiling.derive import inputs_of, launches_of, not_compared, speeds_of, steady_of
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
from edgefc.runtime.profiling.staging import StagedFiles, StagedModel, checked, null_file, staged
from edgefc.runtime.session import other_versions

A = TypeVar("A")
Keep = Callable[[Record], None]

NULL_LAUNCHES = 3  # the differences between them are the noise of the memory measurement
LAUNCHING_S = 30.0  # after this time, no further launch of a cell begins


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

    A model whose inputs have other shapes than those of the first model is not compared with it. See Cell.not_compared.

    Args:
        paths: files, or a Model for each file that has its own settings.
        device: "local", the name of a device as `edgefc devices` lists it, or a Runner, which is closed at the end.
        batch: the size of open first dimensions. Default: 1. It cannot be given together with inputs.
        inputs: an .npz file or arrays by input name. Without it, inputs are random (runtime/inputs.py).
        shapes: shapes of random inputs by name. The size None is the batch size or the default.
        ranges: the lowest and the highest value of random inputs by name, both included.
        min_time_s: the time spent on each cell, divided among `processes` and, in each process, among `rounds`, s.
        samples: the approximate number of timings to keep for each cell.
        launches: the number of new processes for load time and first run.
        progress: whether to show a progress bar on stderr. Default: if stderr is a terminal.
        native: "auto", "on" or "off": whether to load the native kernels, as for Session.
        activation_dtype: "float32" or "int8", as for Session; activations is its old name.
        keep: called after each batch size with an unfinished Record of the cells measured so far.

    Raises:
        UsageError: an argument or an input does not fit a model.
        ModelError: a model cannot be loaded or run. The message names it.
        DeviceError: the device cannot be reached, the connection was lost, or an answer is invalid.
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
            bar.set_postfix_str("checking the models")
            files = staged(runner, request, null)
            trials = checked(runner, request, files)
            config = config_of(request, called, [row[0].batch for row in trials])
            return _Profiler(request, config, trials, (runner, files, bar), keep).record()


def _runner(device: str | Runner) -> Runner:
    if not isinstance(device, str):
        return device
    if device == "local":
        return Local()
    from edgefc.devices.connect import connect  # imported only for a device, because devices/ imports this package

    return connect(device)


class _Profiler:
    """One call of profile()."""

    def __init__(
        self, request: Request, config: Config, trials: tuple[tuple[Trial, ...], ...],
        where: tuple[Runner, StagedFiles, Any], keep: Keep | None,
    ) -> None:  # fmt: skip
        self.request, self.config, self.trials, self.keep = request, config, trials, keep
        self.runner, self.staged, self.bar = where
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
            for asked, trials in zip(self.request.batches, self.trials, strict=True):
                cells = self.cells(asked, trials, self.baselines[-1])
                self.done += cells
                self.speeds += speeds_of(cells)
                if self.keep is not None:
                    self.keep(self.so_far("the measurement was still running"))
        return self.so_far(None)

    def so_far(self, unfinished: str | None) -> Record:
        return Record(
            schema_version=SCHEMA_VERSION, device=self.runner.device(), environment=self.environment,
            config=self.config, models=tuple(self.files), baselines=tuple(self.baselines), cells=tuple(self.done),
            speeds=tuple(self.speeds), unfinished=unfinished,
        )  # fmt: skip

    def baseline(self, threads: int) -> Baseline:
        null = self.staged.null
        steady = self.steady([null], Wanted(batch=1), threads)[0]
        launches = [self.memory(null, Wanted(batch=1), threads)[0] for _ in range(NULL_LAUNCHES * self.request.memory)]
        memory = [m for m in launches if m is not None]
        peak = median_low([m.peak_bytes for m in memory]) if memory else None
        return Baseline(threads=threads, steady=steady, memory=tuple(memory), peak_bytes=peak)

    def cells(self, asked: int | None, trials: Sequence[Trial], baseline: Baseline) -> list[Cell]:
        """One cell for each model, timed together."""
        wanted = replace(self.staged.wanted, batch=asked)
        steadies = self.steady(self.staged.models, wanted, baseline.threads)
        return [self.cell(index, trials, wanted, steady, baseline) for index, steady in enumerate(steadies)]

    def cell(self, index: int, trials: Sequence[Trial], wanted: Wanted, steady: Steady, baseline: Baseline) -> Cell:
        model, file, inputs = self.staged.models[index], self.files[index], inputs_of(trials[index])
        load, first, variant = self.launches(model, wanted, baseline.threads)
        asked = self.request.memory
        memory, missing, heap = self.memory(model, wanted, baseline.threads) if asked else (None, "not requested", None)
        above = None if memory is None or baseline.peak_bytes is None else memory.peak_bytes - baseline.peak_bytes
        sentences = warnings.of_machine(self.environment.emulated)
        sentences += warnings.of_versions(self.versions[index] if self.asks_for_kernels(index) else None)
        sentences += warnings.of_steady(steady, baseline.steady.median_ns)
        sentences += warnings.of_launches(load.samples_ns, self.request.launches)
        if memory is not None and above is not None:
            peaks = [m.peak_bytes for m in baseline.memory]
            sentences += warnings.of_memory(memory, above, max(peaks) - min(peaks), file.file_bytes)
        return Cell(
            model=index, threads=baseline.threads, batch=trials[index].batch, inputs=inputs, native_variant=variant,
            load=load, first=first, steady=steady, memory=memory, memory_missing=missing, heap=heap,
            peak_above_baseline_bytes=above, not_compared=not_compared(inputs_of(trials[0]), inputs),
            warnings=tuple(sentences),
        )  # fmt: skip

    def asks_for_kernels(self, index: int) -> bool:
        return self.staged.models[index].to_run.options.native != "off"

    def steady(self, models: Sequence[StagedModel], wanted: Wanted, threads: int) -> list[Steady]:
        """One result for each model, from all processes.

        The order in which models are loaded can change a time by 5 %, so the processes load them in different orders.
        """
        asked, share = self.request, self.request.processes
        plan = Plan(asked.time_ns // share, asked.rounds, max(1, asked.samples // share))
        indices, about = range(len(models)), ", ".join(model.name for model in models)
        orders = [sorted(indices, key=lambda index: (index + process) % len(models)) for process in range(share)]
        doing = "timing " + (f"{len(models)} models in turn" if len(models) > 1 else Path(about).name)
        questions = [SteadyQuestion(tuple(models[i].at(threads) for i in order), wanted, plan) for order in orders]
        answers = [self.ask(question, doing, about) for question in questions]
        return [steady_of(answers, [order.index(index) for order in orders]) for index in indices]

    def launches(self, model: StagedModel, wanted: Wanted, threads: int) -> tuple[Launches, Launches, str | None]:
        """The load times, the times of the first run, and the variant of the native kernels that was loaded."""
        answers: list[LoadAnswer] = []
        start = time.monotonic()
        for _ in range(self.request.launches):
            if not answers or time.monotonic() - start < LAUNCHING_S:
                question = LoadQuestion(model.at(threads), wanted)
                answers.append(self.ask(question, f"loading {Path(model.name).name}", model.name))
            else:
                self.bar.update()
        load, first = [answer.load_ns for answer in answers], [answer.first_ns for answer in answers]
        return launches_of(load), launches_of(first), answers[0].used_native

    def memory(self, model: StagedModel, wanted: Wanted, threads: int) -> tuple[Memory | None, str | None, Heap | None]:
        """The memory, or the reason why it is missing; and the heap, which a browser reports instead."""
        question = MemoryQuestion(model.at(threads), wanted)
        answer = self.ask(question, f"memory of {Path(model.name).name}", model.name)
        memory = None if answer.memory is None else Memory.of(answer.memory)
        return memory, answer.missing, None if answer.heap is None else Heap.of(answer.heap)

    def ask(self, question: Question[A], doing: str, about: str) -> A:
        self.bar.set_postfix_str(doing)
        answer = self.runner.ask(question, about=about)
        self.bar.update()
        return answer


@contextmanager
def _bar(request: Request, progress: bool | None, runner: Runner) -> Iterator[Any]:
    """A progress bar with one step for each child process."""
    memory = int(request.memory)
    each_cell = len(request.models) * (request.launches + memory) + request.processes
    total = len(request.threads) * (request.processes + NULL_LAUNCHES * memory + len(request.batches) * each_cell)
    hidden = None if progress is None else not progress
    with Bar(total=total, unit="process", desc=runner.name, leave=False, disable=hidden) as bar:
        yield bar
