"""The files of a profile call where a runner has them, and the first look at them there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edgefc import temporary
from edgefc.runtime.probes.null_model import null_model
from edgefc.runtime.profiling.parts import Fed
from edgefc.runtime.profiling.request import Model, Request
from edgefc.runtime.profiling.runner import Runner


@dataclass(frozen=True)
class Placed:
    """A model where the runner has it: its path here, for sentences, and what probes are told."""

    name: str
    question: dict[str, str]


@dataclass(frozen=True)
class Places:
    models: list[Placed]
    null: Placed
    inputs: str | None


@dataclass(frozen=True)
class Tried:
    """A model's batch size, and what it is fed with."""

    batch: int
    inputs: tuple[Fed, ...]


def placed(runner: Runner, request: Request, null: str) -> Places:
    models = [Placed(str(model.path), model.question(runner.place(str(model.path)))) for model in request.models]
    inputs = None if request.inputs is None else runner.place(request.inputs)
    return Places(models, Placed("the null model", Model(null).question(runner.place(null))), inputs)


def checked(runner: Runner, request: Request, places: Places) -> list[list[Tried]]:
    """For each batch asked for, what each model was fed with, once all have loaded and run."""
    names = ("batches", "preset", "native", "activation_dtype", "shapes", "ranges")
    asked = {name: getattr(request, name) for name in names}
    question = {**asked, "models": [model.question for model in places.models], "inputs": places.inputs}
    about = ", ".join(model.name for model in places.models)
    found = runner.ask("trial", question, about=about)
    return [[Tried(one["batch"], tuple(map(Fed.of, one["inputs"]))) for one in row] for row in found]


@contextmanager
def null_file() -> Iterator[str]:
    with temporary.folder("edgefc-null-") as folder:
        path = folder / "null.onnx"
        path.write_bytes(null_model())
        yield str(path)
