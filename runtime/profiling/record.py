"""Record: all results of one call of profile(), including the raw samples, and the file format.

    device        the device, how it was reached, and its temperature
    environment   the machine and the versions
    config        the arguments of profile()
    models        the model files and their weights files: name, size, sha256
    baselines     per thread count: latency and memory of the null model, the share of onnxruntime and the harness
    cells         per model, thread count and batch: load, first run, steady state, memory, warnings
    speeds        per thread count and batch: the first model's time divided by each other model's; above 1 is faster
    unfinished    null, or why cells are missing, for example because the connection to a device was lost

A record names no machine, user or folder, with two exceptions. The message of a failure may contain one. Models with
the same file name have as many of their folders, as given, as are needed to distinguish them. Names of fields end in
their unit. A value that could not be measured is null, and another field has the reason.

Format history (schema_version):
    1   first
    2   config.native and cells.native: whether native kernels were asked for, and loaded
    3   device; unfinished; config.model_settings; config.activations; python, numpy and CPU times may be null with a
        reason
    4   speeds (first / own) replace ratios (own / first); config.shapes and config.ranges; cells.inputs and
        cells.not_compared. Records of version 3 are converted when they are read
    5   renamed: cells.doubts to cells.warnings, config.activations to config.activation_dtype, cells.native to
        cells.native_variant. Records of versions 3 and 4 are converted when they are read
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
    """A device that failed, with no record or an unfinished one. The sentence names the device."""

    device: str
    sentence: str


class Record(Part):
    """The results for one device. The docstring of the module describes the fields."""

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
        """Read a file of write() or edgefc profile --json that has the record of exactly one device.

        Raises:
            UsageError: the file has no record of version 3 to 5, or is about several devices.
        """
        content = _read_profile(path)
        if isinstance(content, Record):
            return content
        names = {record.device.name for record in content.records} | {failure.device for failure in content.failures}
        if len(content.records) != 1 or len(names) > 1:
            raise UsageError(
                f"cannot read {path} as one record: it has {len(content.records)} records and {len(content.failures)} "
                "failures of devices. Read it with edgefc.runtime.Report.read."
            )
        return content.records[0]


class Report(Part):
    """The output of edgefc profile --json: a record for each measured device, a Failure for each one that failed.

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
        """Read a report. A file of Record.write(), with a single record, is read as a report of one device.

        Raises:
            UsageError: the file has no records of version 3 to 5.
        """
        content = _read_profile(path)
        return content if isinstance(content, Report) else cls.from_records(content)


def _form(value: object) -> str:
    return "report" if isinstance(value, dict) and "records" in value else "record"


_Profile = Annotated[Annotated[Record, Tag("record")] | Annotated[Report, Tag("report")], Discriminator(_form)]


def _read_profile(path: str | os.PathLike[str]) -> Record | Report:
    """A report or a single record. Before version 0.2, edgefc profile --json wrote a single record for one device."""
    content: Record | Report = read_json(_Profile, path, "edgefc profile")
    return content


def read_json(form: Any, path: str | os.PathLike[str], command: str) -> Any:
    """Read a file that `command` wrote. `form` is the type, which pydantic validates.

    Raises:
        UsageError: the file does not exist, or its content does not have this form and version.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe would wait for data
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
        return f"its schema_version is not {fault['ctx']['expected']}, which this version of edgefc reads"
    field = ".".join(map(str, where))
    return f"{field}: {fault['msg']}" if field else fault["msg"]
