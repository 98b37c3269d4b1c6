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
    5   cells.warnings, before cells.doubts; config.activation_dtype, before config.activations; cells.native_variant,
        before cells.native. Versions 3 and 4 are converted when they are read
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag, TypeAdapter, ValidationError

from edgefc.errors import UsageError, reason_of
from edgefc.files import write_text
from edgefc.runtime.profiling.parts import Baseline, Cell, Config, Device, Environment, ModelFile, Part, Speed
from edgefc.runtime.profiling.record_history import upgraded

SCHEMA_VERSION: Literal[5] = 5
_LARGEST_BYTES = 256 << 20


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
        """The record of one device in a file that write() or edgefc profile --json wrote.

        Raises:
            UsageError: the file has no record of version 3 to 5, or not exactly one.
        """
        found = _read_profile(path)
        if isinstance(found, Record):
            return found
        names = {record.device.name for record in found.records} | {failure.device for failure in found.failures}
        if len(found.records) != 1 or len(names) > 1:
            raise UsageError(
                f"cannot read {path} as one record: it has {len(found.records)} records and {len(found.failures)} "
                "failures of devices. Read it with edgefc.runtime.Report.read."
            )
        return found.records[0]


class Report(Part):
    """What edgefc profile --json writes: a record of each device that was measured, a sentence of each that failed.

    A device that failed after a part of the work has both.
    """

    schema_version: Literal[5]
    records: tuple[Record, ...]
    failures: tuple[Failure, ...]

    @classmethod
    def from_records(cls, *records: Record, failures: Iterable[Failure] = ()) -> "Report":
        return cls(schema_version=SCHEMA_VERSION, records=records, failures=tuple(failures))

    def write(self, path: str | os.PathLike[str]) -> None:
        write_text(path, self.model_dump_json() + "\n")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Report":
        """The report in a file. A file with a single record, as Record.write writes it, is a report of one device.

        Raises:
            UsageError: the file has no records of version 3 to 5.
        """
        found = _read_profile(path)
        return found if isinstance(found, Report) else cls.from_records(found)


def _form(value: object) -> str:
    return "report" if isinstance(value, dict) and "records" in value else "record"


_Profile = Annotated[Annotated[Record, Tag("record")] | Annotated[Report, Tag("report")], Discriminator(_form)]


def _read_profile(path: str | os.PathLike[str]) -> Record | Report:
    """Both forms of a file: edgefc profile --json wrote a single record for one device before version 0.2."""
    found: Record | Report = read_json(_Profile, path, "edgefc profile")
    return found


def read_json(form: Any, path: str | os.PathLike[str], command: str) -> Any:
    """What `command` wrote into a file. `form` is a type that pydantic validates.

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
        return TypeAdapter(form).validate_json(upgraded(text))
    except ValidationError as error:
        raise UsageError(f"cannot read {path}: {_first(error)}. Name a record of {command}.") from None


def _first(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    where = fault["loc"][fault["loc"][:1] in (("record",), ("report",)) :]
    if where == ("schema_version",) and fault["type"] == "literal_error":
        return f"its schema_version is not {fault['ctx']['expected']}, the one that this edgefc reads"
    shown = ".".join(map(str, where))
    return f"{shown}: {fault['msg']}" if shown else fault["msg"]
