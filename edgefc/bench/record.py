"""BenchRecord: everything that one bench found, and its file format.

    environment   the machine and the versions
    config        what was asked
    limits        what the machine can do at most (limits.py)
    rows          one per layer, kernel, size and batch: what the table and the picture show
    left_out      what was asked for and is not in rows, each with its reason
    profiles      per size and batch the record of edgefc profile, with every timing kept; rows point into them
    unfinished    null, or why sizes are missing

Units end the names. A value that could not be had is null.

Format history (schema_version):
    1   first
    2   nmse of every row; competitors are checked before they are timed
    3   rows.warnings, before rows.doubts. Version 2 is converted when it is read
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
    """sizes are (n, m), n inputs and m outputs; layers is what was asked for by name, null for all."""

    sizes: tuple[tuple[int, int], ...]
    batches: tuple[int, ...]
    layers: tuple[str, ...] | None
    threads: int
    time_ns: int


class Row(Part):
    """One layer at one size and batch; kernel is "onnxruntime", "portable", "native" or NATIVE_INT8.

    nmse: the normalised mean squared error of the output against float64 (check.py says against which product).
    speed is the time of the dense layer in the same rounds over this one's: above 1 is faster than dense. low and high
    are its 95 % interval, null when there are too few rounds.
    bytes_per_run: the stored weights once, the input and the output; what the layer must move at least.
    operations_per_run: two for each multiply-add that the layer's formula takes.
    loaded_bytes: held after loading, above a model that does nothing. Weights that the system maps from a file are not
    in memory yet; resident_bytes has them: held after one run more, at the first batch size of the bench.
    load_ns: one load in a fresh process.
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
    """n, m and batch are null where the reason holds for all of them."""

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
        """The record in a file.

        Raises:
            UsageError: there is none, or none of version 2 or 3.
        """
        found: BenchRecord = read_json(cls, path, "edgefc bench")
        return found

    def groups(self) -> list[tuple[Row, ...]]:
        """Rows that stand for the same dense layer at the same batch, the sizes in the order of the run."""
        found: dict[tuple[str, int, int, int], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.replaces, row.n, row.m, row.batch), []).append(row)
        return [tuple(rows) for rows in found.values()]
