"""Give the files of one call of profile() to a runner, and check there that the models load and run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edgefc import temporary
from edgefc.runtime.inputs import Wanted
from edgefc.runtime.probes.contracts import ModelToRun, Trial, TrialQuestion
from edgefc.runtime.probes.null_model import null_model
from edgefc.runtime.profiling.request import Model, Request
from edgefc.runtime.profiling.runner import Runner


@dataclass(frozen=True)
class StagedModel:
    """A model that the runner has: its path on this machine, for messages, and the model for the probes."""

    name: str
    to_run: ModelToRun

    def at(self, threads: int) -> ModelToRun:
        return replace(self.to_run, options=replace(self.to_run.options, threads=threads))


@dataclass(frozen=True)
class StagedFiles:
    """The files that the runner has: the models, the null model, and the inputs of `wanted`."""

    models: list[StagedModel]
    null: StagedModel
    wanted: Wanted


def staged(runner: Runner, request: Request, null: str) -> StagedFiles:
    options = request.options
    models = [
        StagedModel(str(model.path), model.to_run(runner.place(str(model.path)), options)) for model in request.models
    ]
    wanted = replace(request.wanted, path=None if request.wanted.path is None else runner.place(request.wanted.path))
    return StagedFiles(models, StagedModel("the null model", Model(null).to_run(runner.place(null), options)), wanted)


def checked(runner: Runner, request: Request, files: StagedFiles) -> tuple[tuple[Trial, ...], ...]:
    """Load and run each model. Return its inputs, with one row for each requested batch size."""
    question = TrialQuestion(tuple(model.to_run for model in files.models), files.wanted, request.batches)
    return runner.ask(question, about=", ".join(model.name for model in files.models)).rows


@contextmanager
def null_file() -> Iterator[str]:
    with temporary.folder("edgefc-null-") as folder:
        path = folder / "null.onnx"
        path.write_bytes(null_model())
        yield str(path)
