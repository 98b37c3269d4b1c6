"""The arguments of profile(), checked before a child process starts."""

import hashlib
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgefc import temporary
from edgefc.errors import UsageError
from edgefc.modelfile.admission import admit
from edgefc.modelfile.weights import weight_files
from edgefc.runtime.inputs import Ranges, Shapes, Wanted
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.presets import PRESETS
from edgefc.runtime.probes.contracts import ModelToRun
from edgefc.runtime.profiling.names import plain
from edgefc.runtime.profiling.parts import Config, ModelFile, WeightsFile
from edgefc.runtime.signature import Array, array_of


@dataclass(frozen=True)
class Model:
    """A file with its own settings. A setting that is None is the one of profile().

    profile([Model("m.onnx", native="off"), Model("m.onnx", native="on")])
    """

    path: str | os.PathLike[str]
    native: str | None = None
    activation_dtype: str | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The settings that are not None, by Session's names."""
        return {name: value for name, value in vars(self).items() if name != "path" and value is not None}

    def to_run(self, place: str, options: SessionOptions) -> ModelToRun:
        """The model for a probe. `place` is the path of the file where the probe runs.

        Raises:
            UsageError: a setting is invalid.
        """
        own: dict[str, Any] = self.settings
        return ModelToRun(place, replace(options, **own))


OneModel = str | os.PathLike[str] | Model
Paths = OneModel | Sequence[OneModel]
Counts = int | list[int] | tuple[int, ...]
Inputs = str | os.PathLike[str] | Mapping[str, Any] | None


@dataclass(frozen=True)
class Request:
    """The checked arguments. In batches, None is the model's own size.

    Each cell sets the batch of `wanted` and the threads of `options`. Each model is loaded `launches` times in new
    processes.
    """

    models: tuple[Model, ...]
    batches: tuple[int | None, ...]
    threads: tuple[int, ...]
    options: SessionOptions
    wanted: Wanted
    time_ns: int
    processes: int
    rounds: int
    samples: int
    launches: int
    memory: bool


def models_of(paths: Paths) -> tuple[Model, ...]:
    """Converts paths to Models. Checks that each file can be read and is not empty, and that the settings are valid.

    Raises:
        UsageError: no model was given, or a file or a setting is invalid.
    """
    several = [paths] if isinstance(paths, (str, os.PathLike, Model)) else list(paths)
    if not several:
        raise UsageError("no model was given. Give at least one .onnx file.")
    models = tuple(model if isinstance(model, Model) else Model(model) for model in several)
    for model in models:
        admit(Path(model.path))
        model.to_run("", SessionOptions())  # checks its settings
    return tuple(replace(model, path=os.fspath(model.path)) for model in models)


def counts(name: str, given: Counts) -> tuple[int, ...]:
    """One or more positive integers, as a tuple."""
    several = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if not several or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in several):
        raise UsageError(f"{name} is {given!r}. Give a positive integer, or a list of them.")
    return several


def batches_of(given: Counts | None, inputs: Inputs) -> tuple[int | None, ...]:
    if given is not None and inputs is not None:
        raise UsageError(f"batch {_text(given)} was given, but the inputs set the batch size. Omit one of them.")
    return (None,) if given is None else counts("batch", given)


def shapes_of(given: Shapes | None, inputs: Inputs) -> dict[str, tuple[int | None, ...]]:
    """Sizes by input name; None leaves an axis open."""
    _check_drawn("shapes", given, inputs)
    for name, shape in (given or {}).items():
        if isinstance(shape, (str, int)) or any(not _is_size(size) for size in shape):
            raise UsageError(f"shapes of {name!r} are {shape!r}. Give positive integers, or None for an open axis.")
    return {name: tuple(shape) for name, shape in (given or {}).items()}


def _is_size(size: object) -> bool:
    return size is None or (isinstance(size, int) and not isinstance(size, bool) and 1 <= size < 1 << 48)


def ranges_of(given: Ranges | None, inputs: Inputs) -> dict[str, tuple[float, float]]:
    """Lowest and highest value by input name, both included."""
    _check_drawn("ranges", given, inputs)
    ranges: dict[str, tuple[float, float]] = {}
    for name, pair in (given or {}).items():
        numbers = () if isinstance(pair, (str, int, float)) else tuple(pair)
        if len(numbers) != 2 or not all(_is_number(number) for number in numbers) or numbers[0] > numbers[1]:
            raise UsageError(f"the range of {name!r} is {pair!r}. Give the lowest and the highest value.")
        ranges[name] = numbers[0], numbers[1]
    return ranges


def _is_number(number: object) -> bool:
    return isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)


def _check_drawn(what: str, given: object, inputs: Inputs) -> None:
    if given and inputs is not None:
        raise UsageError(
            f"inputs and {what} were both given, but {what} apply only to random inputs. Omit one of them."
        )


def _text(given: Counts) -> str:
    return ",".join(map(str, given)) if isinstance(given, (list, tuple)) else str(given)


def seconds(given: float) -> int:
    """Convert seconds to nanoseconds."""
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given <= 3600:
        raise UsageError(f"cannot time for {given!r} s. Give a number of seconds above 0, up to 3600.")
    return max(1, round(given * 1e9))


def options_of(preset: str, native: str, threads: Sequence[int], activation_dtype: str) -> SessionOptions:
    """The options for one thread. The largest thread count is checked too."""
    return replace(SessionOptions(preset, native, max(threads), activation_dtype), threads=1)


def config_of(request: Request, inputs: str, batches: Sequence[int]) -> Config:
    options, wanted = request.options, request.wanted
    shapes = {name: tuple(shape) for name, shape in (wanted.shapes or {}).items()}
    ranges = {name: (low, high) for name, (low, high) in (wanted.ranges or {}).items()}
    return Config(
        **{**vars(options), "threads": request.threads},
        model_settings=tuple(model.settings for model in request.models),
        settings=dict(PRESETS[options.preset]), inputs=inputs, shapes=shapes, ranges=ranges, batches=tuple(batches),
        time_ns=request.time_ns, processes=request.processes, rounds=request.rounds, samples=request.samples,
        launches=request.launches, memory=request.memory,
    )  # fmt: skip


def model_file(path: str, name: str) -> ModelFile:
    weights = tuple(WeightsFile(name=plain(file.name), **_digest(file)) for file in weight_files(Path(path)))
    return ModelFile(name=name, **_digest(Path(path)), weights=weights)


def _digest(path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
            size += len(part)
    return {"file_bytes": size, "sha256": digest.hexdigest()}


@contextmanager
def inputs_file(inputs: Inputs) -> Iterator[tuple[str | None, str]]:
    """The path of the file with the inputs, and the name of the inputs in the record."""
    if inputs is None:
        yield None, "drawn"
    elif isinstance(inputs, Mapping):
        with temporary.folder("edgefc-inputs-") as folder:
            path = str(folder / "inputs.npz")
            _write_npz(path, inputs)
            yield path, "given"
    else:
        yield os.fspath(inputs), plain(Path(inputs).name)


def _write_npz(path: str, inputs: Mapping[str, Any]) -> None:
    """Write arrays as numpy.savez does. numpy.savez itself does not accept an array with the name `file`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in inputs.items():
            array = _plain(str(name), value)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _plain(name: str, value: Any) -> Array:
    """An array of numbers or strings, which is written without pickle."""
    array = array_of(name, value)
    if array.dtype.hasobject and all(isinstance(each, str) for each in array.flat):
        array = array.astype(str)
    if array.dtype.hasobject or array.dtype.kind not in "biufcSU":
        raise UsageError(f"input {name!r} is an array of {array.dtype.name}. Give an array of numbers or strings.")
    return array
