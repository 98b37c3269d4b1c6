"""BenchRecord: the results of one benchmark, and their file format.

    environment   the machine and the versions
    config        the request
    limits        the peak rates of the machine (limits.py)
    rows          one per layer, kernel, size and batch: the contents of the table and the picture
    left_out      requested layers that are not in rows, each with the reason
    profiles      one record of edgefc profile per size and batch, with every timing; rows refer to them by index
    unfinished    null, or the reason why sizes are missing

Names end with the unit. A value that could not be measured is null.

Format history (schema_version):
    1   first
    2   nmse of every row; competitors are checked before they are timed
    3   rows.doubts renamed to rows.warnings. Version 2 is converted when it is read
"""

import os
from typing import Literal

from pydantic import Field

from edgefc.bench.limits import Limits
from edgefc.files import write_text
from edgefc.runtime.profiling.parts import Environment, Part
from edgefc.runtime.profiling.record import Record, read_json

SCHEMA_VERSION: Literal[3] = 3

NATIVE_INT8 = "native, int8 input"


class BenchConfig(Part):
    """The request. sizes are (n, m): n inputs and m outputs. layers are the requested names, null for all."""

    sizes: tuple[tuple[int, int], ...]
    batches: tuple[int, ...]
    layers: tuple[str, ...] | None
    threads: int
    time_ns: int


class Row(Part):
    """One layer at one size and batch; kernel is "onnxruntime", "portable", "native" or NATIVE_INT8.

    nmse                 normalised mean squared error of the output against float64 (check.py defines the reference)
    speed                time of the dense layer divided by the time of this one, in the same rounds; above 1 is faster
    speed_low/high       the 95 % interval of speed; null if there are too few rounds
    bytes_per_run        the stored weights, the input and the output, each once: the least that a run must move
    operations_per_run   two per multiply-add of the layer's formula
    loaded_bytes         memory after loading, beyond that of a model that does nothing. Weights that the system maps
                         from a file are not yet in memory
    resident_bytes       the same after one run at the first batch size of the benchmark, so mapped weights are included
    load_ns              time of one load in a new process
    """

    layer: str
    kernel: str
    replaces: str
    is_dense: bool
    n: int
    m: int
    batch: int
    profile: int = Field(description="index into profiles")
    model: int = Field(description="index into that profile's models")
    median_ns: float
    nmse: float
    speed: float
    speed_low: float | None
    speed_high: float | None
    bytes_per_run: int
    operations_per_run: int
    weight_bytes: int
    loaded_bytes: int | None
    resident_bytes: int | None
    load_ns: float
    note: str
    warnings: tuple[str, ...]

    @property
    def bytes_per_s(self) -> float:
        return self.bytes_per_run / self.median_ns * 1e9

    @property
    def operations_per_s(self) -> float:
        return self.operations_per_run / self.median_ns * 1e9


class LeftOut(Part):
    """A layer that was not measured. n, m and batch are null if the reason applies to all of them."""

    layer: str
    kernel: str | None
    n: int | None
    m: int | None
    batch: int | None
    reason: str


class BenchRecord(Part):
    schema_version: Literal[3]
    environment: Environment
    torch: str
    config: BenchConfig
    limits: Limits
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]
    profiles: tuple[Record, ...]
    unfinished: str | None

    def write(self, path: str | os.PathLike[str]) -> None:
        write_text(path, self.model_dump_json() + "\n")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "BenchRecord":
        """Read a record from a file.

        Raises:
            UsageError: the file cannot be read, or is not a record of version 2 or 3.
        """
        found: BenchRecord = read_json(cls, path, "edgefc bench")
        return found

    def groups(self) -> list[tuple[Row, ...]]:
        """The rows grouped by replaced dense layer, size and batch, in the order of the run."""
        groups: dict[tuple[str, int, int, int], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.replaces, row.n, row.m, row.batch), []).append(row)
        return [tuple(rows) for rows in groups.values()]
