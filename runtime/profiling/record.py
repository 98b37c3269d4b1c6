"""Record: everything that one call of profile() measured, raw samples included, and its file format.

    device        which device, how it was reached, how hot it was
    environment   the machine and the versions
    config        what was asked
    models        the files and the weights beside them: name, size, sha256
    baselines     per thread count: the null model's latency and memory, which is onnxruntime's and the harness's share
    cells         per model, thread count and batch: load, first run, steady state, memory, warnings
    speeds        per thread count and batch: the first model's time over each other one's, so above 1 is faster
    unfinished    null, or why cells are missing: the link to a device was lost, say

A record names no machine, user or folder, with two exceptions: the sentence of a failure may quote one, and models
whose files have one name are called by as many of their folders, as given, as tell them apart. Units end the names.
A value that could not be measured is null, with the reason beside it.

Format history (schema_version):
    1   first
    2   config.native and cells.native: whether native kernels were asked for, and loaded
    3   device; unfinished; config.model_settings; config.activations; python, numpy and CPU times may be null with a
        reason
    4   speeds, which are first over own, in the place of ratios, which were own over first; config.shapes and
        config.ranges; cells.inputs and cells.not_compared. Records of version 3 are converted when they are read
    5   cells.warnings, before cells.doubts; config.activation_dtype, before config.activations. Versions 3 and 4 are
        converted when they are read
"""

import os
from pathlib import Path
from typing import Literal, TypeVar, get_args

from pydantic import ValidationError

from edgefc.errors import UsageError, reason_of
from edgefc.files import write_text
from edgefc.runtime.profiling.parts import Baseline, Cell, Config, Device, Environment, ModelFile, Part, Speed
from edgefc.runtime.profiling.record_history import upgraded

SCHEMA_VERSION: Literal[5] = 5
_LARGEST_BYTES = 256 << 20

R = TypeVar("R", bound=Part)


class Failure(Part):
    """A device that gave no record, or a part of one. The sentence names it."""

    device: str
    sentence: str


class Record(Part):
    schema_version: Literal[5]
    device: Device
    environment: Environment
    config: Config
    models: tuple[ModelFile, ...]
    baselines: tuple[Baseline, ...]
    cells: tuple[Cell, ...]
    speeds: tuple[Speed, ...]
    unfinished: str | None

    def to_json(self) -> str:
        return self.model_dump_json() + "\n"

    def write(self, path: str | os.PathLike[str]) -> None:
        write_text(path, self.to_json())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Record":
        """The record in a file.

        Raises:
            UsageError: there is none, or none of version 3 to 5.
        """
        return read_json(cls, path, "edgefc profile")


class Report(Part):
    """What several devices answered to one profile call: a record of each that could, a sentence of each that not."""

    schema_version: Literal[5]
    records: tuple[Record, ...]
    failures: tuple[Failure, ...]

    def write(self, path: str | os.PathLike[str]) -> None:
        write_text(path, self.model_dump_json() + "\n")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Report":
        """As Record.read."""
        return read_json(cls, path, "edgefc profile")


def read_json(form: type[R], path: str | os.PathLike[str], command: str) -> R:
    """What `command` wrote into a file.

    Raises:
        UsageError: there is no file, or it holds nothing of this form and version.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise UsageError(f"cannot read {path}: it is not a regular file. Name a record of {command}.")
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {reason_of(error)}. Check the path.") from None
    if len(text) > _LARGEST_BYTES:
        raise UsageError(f"cannot read {path}: it is above {_LARGEST_BYTES} bytes. Name a record of {command}.")
    try:
        return form.model_validate_json(upgraded(text))
    except ValidationError as error:
        raise UsageError(f"cannot read {path}: {_first(error, form)}. Name a record of {command}.") from None


def _first(error: ValidationError, form: type[Part]) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    if fault["loc"] == ("schema_version",) and fault["type"] == "literal_error":
        (version,) = get_args(form.model_fields["schema_version"].annotation)
        return f"its schema_version is not {version}, the one that this edgefc reads"
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}" if where else fault["msg"]
