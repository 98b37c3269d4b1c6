"""The files of a profile call where a runner has them, and the first look at them there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edgefc import temporary
from edgefc.runtime.inputs import Wanted
from edgefc.runtime.probes.contracts import ModelToRun, TrialQuestion, Tried
from edgefc.runtime.probes.null_model import null_model
from edgefc.runtime.profiling.request import Model, Request
from edgefc.runtime.profiling.runner import Runner


@dataclass(frozen=True)
class Placed:
    """A model where the runner has it: its path here, for sentences, and what probes are told."""

    name: str
    to_run: ModelToRun

    def at(self, threads: int) -> ModelToRun:
        return replace(self.to_run, options=replace(self.to_run.options, threads=threads))


@dataclass(frozen=True)
class Places:
    models: list[Placed]
    null: Placed
    wanted: Wanted


def placed(runner: Runner, request: Request, null: str) -> Places:
    options = request.options
    models = [Placed(str(model.path), model.to_run(runner.place(str(model.path)), options)) for model in request.models]
    wanted = replace(request.wanted, path=None if request.wanted.path is None else runner.place(request.wanted.path))
    return Places(models, Placed("the null model", Model(null).to_run(runner.place(null), options)), wanted)


def checked(runner: Runner, request: Request, places: Places) -> tuple[tuple[Tried, ...], ...]:
    """For each batch asked for, what each model was fed with, once all have loaded and run."""
    question = TrialQuestion(tuple(model.to_run for model in places.models), places.wanted, request.batches)
    return runner.ask(question, about=", ".join(model.name for model in places.models)).rows


@contextmanager
def null_file() -> Iterator[str]:
    with temporary.folder("edgefc-null-") as folder:
        path = folder / "null.onnx"
        path.write_bytes(null_model())
        yield str(path)
