"""Record: everything that one call of profile() measured, raw samples included, and its file format.

    environment   the machine and the versions
    config        what was asked
    models        the files: name, size, sha256
    baselines     per thread count: the null model's latency and memory, which is onnxruntime's and the harness's share
    cells         per model, thread count and batch: load, first run, steady state, memory, doubts
    ratios        per thread count and batch: each model's time over the first one's

A record names no machine, user or folder. Units end the names. A value that could not be had is null and says why.

Format history (schema_version):
    1   first
"""

import json
import os
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from edgefc.errors import UsageError
from edgefc.files import write_text

SCHEMA_VERSION: Literal[1] = 1
_LARGEST_BYTES = 256 << 20


_P = TypeVar("_P", bound="_Part")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def of(cls: type[_P], data: dict[str, Any]) -> _P:
        """From plain data, as a child process sends it."""
        return cls.model_validate_json(json.dumps(data))


class Environment(_Part):
    machine: str
    board: str | None
    virtual: bool | None
    emulated: bool | None
    cpu: str | None
    features: tuple[str, ...] | None
    cores: int
    usable_cores: int | None
    governor: str | None
    frequency_hz: int | None
    max_frequency_hz: int | None
    memory_bytes: int | None
    load_1min: float | None
    os: str
    python: str
    implementation: str
    onnxruntime: str
    numpy: str
    edgefc: str
    date: AwareDatetime
    missing: dict[str, str]


class Config(_Part):
    """time_ns and samples are per cell, rounds per process.

    `inputs` is "drawn" (from seed 0), "given" (arrays in memory) or the .npz file's name.
    """


    batches: tuple[int, ...]
    threads: tuple[int, ...]
    preset: str
    settings: dict[str, str | bool | int]
    inputs: str
    time_ns: int
    processes: int
    rounds: int
    samples: int
    launches: int
    memory: bool


class WeightsFile(_Part):
    name: str
    file_bytes: int
    sha256: str


class ModelFile(_Part):
    """An .onnx file, and the files beside it that hold its weights."""

    name: str
    file_bytes: int
    sha256: str
    weights: tuple[WeightsFile, ...]

    @property
    def all_bytes(self) -> int:
        return self.file_bytes + sum(file.file_bytes for file in self.weights)


class Launches(_Part):
    """One time per fresh process."""

    median_ns: float
    samples_ns: tuple[int, ...]


class Round(_Part):
    """One model's part of one round in one of the timing processes.

    All runs count in runs, wall_ns and cpu_ns; some were kept as samples.
    """


    process: int
    samples_ns: tuple[int, ...]
    runs: int
    wall_ns: int
    cpu_ns: int


class WarmUp(_Part):
    """Of one process."""

    runs: int
    settled: bool
    run_ns: float


class Steady(_Part):
    """p99_ns is null below stats.P99_NEEDS samples; cpu_ns_per_run is the CPU time of all threads.

    other_cores is what everything else kept busy meanwhile; null where it cannot be read or the time was too short.
    """

    median_ns: float
    p90_ns: float
    p99_ns: float | None
    rel_mad: float
    sample_count: int
    cpu_ns_per_run: float
    timer_step_ns: int
    other_cores: float | None
    warm_ups: tuple[WarmUp, ...]
    rounds: tuple[Round, ...]


class Stage(_Part):
    anonymous_bytes: int
    file_bytes: int


class Memory(_Part):
    """Of one process: runtime imported, model loaded, model run once; and the peak since the import."""

    imported: Stage
    loaded: Stage
    ran: Stage
    peak_bytes: int
    peak_reset: bool
    swapped_bytes: int


class Baseline(_Part):
    """The null model. peak_bytes is the median of its launches."""

    threads: int
    steady: Steady
    memory: tuple[Memory, ...]
    peak_bytes: int | None


class Cell(_Part):
    """peak_above_baseline_bytes is memory.peak_bytes minus the baseline's peak_bytes at the same thread count."""

    model: int = Field(description="index into models")
    threads: int
    batch: int
    load: Launches
    first: Launches
    steady: Steady
    memory: Memory | None
    memory_missing: str | None
    peak_above_baseline_bytes: int | None
    doubts: tuple[str, ...]


class Ratio(_Part):
    """Median over rounds of (model's median / first model's median), with a 95 % interval over processes and rounds.

    Above 1 is slower. low and high are null when there are too few rounds.
    """

    model: int
    threads: int
    batch: int
    median: float
    low: float | None
    high: float | None


class Record(_Part):
    schema_version: Literal[1]
    environment: Environment
    config: Config
    models: tuple[ModelFile, ...]
    baselines: tuple[Baseline, ...]
    cells: tuple[Cell, ...]
    ratios: tuple[Ratio, ...]

    def to_json(self) -> str:
        return self.model_dump_json() + "\n"

    def write(self, path: str | os.PathLike[str]) -> None:
        write_text(path, self.to_json())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Record":
        """The record in a file.

        Raises:
            UsageError: there is none, or not one of this version.
        """
        try:
            with Path(path).open("rb") as file:
                text = file.read(_LARGEST_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot read {path}: {reason}. Check the path.") from None
        if len(text) > _LARGEST_BYTES:
            raise UsageError(f"cannot read {path}: it is above {_LARGEST_BYTES} bytes. Name an edgefc record.")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UsageError(f"cannot read {path}: {_first(error)}. Name a record of edgefc profile.") from None


def _first(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    if fault["loc"] == ("schema_version",) and fault["type"] == "literal_error":
        return f"its schema_version is not {SCHEMA_VERSION}, the one that this edgefc reads"
    where = ".".join(map(str, fault["loc"]))
    return f"{where}: {fault['msg']}" if where else fault["msg"]
