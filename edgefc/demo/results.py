"""Results: everything that one demo found, and its file format, results.json.

    recipe      how the models were trained
    trainings   per kind of layer and seed: test digits named correctly
    files       per exported file: sizes, load times, peak memory, latency at each batch size
    sentences   what of it can be said

Units end the names. A value that could not be had is null.

Format history (schema_version):
    1   first
    2   latencies.speed, dense over own, in the place of ratio, which was own over dense
    3   warnings, before doubts
"""

from typing import Literal

from edgefc.runtime.profiling.parts import Environment, Part

SCHEMA_VERSION: Literal[3] = 3


class Recipe(Part):
    """Rates are Adam's first learning rates, by kind of layer."""

    width: int
    epochs: int
    rows_per_step: int
    rates: dict[str, float]


class Training(Part):
    """`right` of `rows` test digits."""

    kind: str
    seed: int
    right: int
    rows: int
    seconds: float

    @property
    def percent(self) -> float:
        return 100 * self.right / self.rows


class Latency(Part):
    """Of one run. speed is the time of dense over this one's in the same rounds: above 1 is faster than dense.

    low to high is its 95 % interval.
    """

    batch: int
    median_ns: float
    speed: float | None
    low: float | None
    high: float | None


class File(Part):
    """One exported file, measured on one thread.

    Load times are of all launches, at whatever batch size; peak memory is above onnxruntime's own, at batch 1.
    """

    name: str
    kind: str
    file: str
    numbers: int
    file_bytes: int
    load_ns: tuple[int, ...]
    peak_bytes: int | None
    latencies: tuple[Latency, ...]
    warnings: tuple[str, ...]


class Results(Part):
    """memory_noise_bytes is how far peaks of one and the same model lay apart."""

    schema_version: Literal[3]
    recipe: Recipe
    fingerprint: str
    exported_seed: int
    versions: dict[str, str]
    environment: Environment
    trainings: tuple[Training, ...]
    memory_noise_bytes: int | None
    files: tuple[File, ...]
    sentences: tuple[str, ...]

    def percents(self, kind: str) -> list[float]:
        """Test accuracies of one kind, seed by seed."""
        return [training.percent for training in sorted(self.trainings, key=lambda t: t.seed) if training.kind == kind]
