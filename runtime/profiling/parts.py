"""The parts of a record (record.py). They are frozen, have strict types, and forbid other keys."""

from typing import Any, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

P = TypeVar("P", bound="Part")


class Part(BaseModel):
    """Base class of the parts."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def of(cls: type[P], data: Any) -> P:
        """Convert an object with the same fields: an answer of a probe, or a dict."""
        return cls.model_validate(data, from_attributes=True)


class Environment(Part):
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
    python: str | None
    implementation: str
    onnxruntime: str
    numpy: str | None
    edgefc: str
    date: AwareDatetime
    missing: dict[str, str]


class Heat(Part):
    """The state at one moment: the hottest zone, the slowest core, and whether the processor is throttled."""

    temperature_c: float | None
    frequency_hz: int | None
    throttled: bool | None
    missing: dict[str, str]


class Device(Part):
    """The device. If emulated, its times are not those of real hardware.

    waited_s is how long the run waited for the device to cool. download_bytes is the size of the files that a browser
    downloads besides the model. notes list what this kind of device cannot report, and what was never tested on a real
    device.
    """

    name: str
    transport: str
    emulated: bool
    profile: str | None
    before: Heat | None
    after: Heat | None
    waited_s: float
    download_bytes: int | None
    notes: tuple[str, ...]


class Config(Part):
    """time_ns and samples are per cell, rounds per process; native is "auto", "on" or "off", activation_dtype
    "float32" or "int8".

    model_settings has for each model the settings that apply only to it, such as {"native": "off"}.

    inputs is "drawn" (random values from seed 0), "given" (arrays in memory) or the name of the .npz file.

    shapes and ranges are those requested for random inputs, by name. A null size is the batch size or the default.
    """

    batches: tuple[int, ...]
    threads: tuple[int, ...]
    preset: str
    native: str
    activation_dtype: str
    model_settings: tuple[dict[str, str], ...]
    settings: dict[str, str | bool | int]
    inputs: str
    shapes: dict[str, tuple[int | None, ...]]
    ranges: dict[str, tuple[int | float, int | float]]
    time_ns: int
    processes: int
    rounds: int
    samples: int
    launches: int
    memory: bool


class WeightsFile(Part):
    name: str
    file_bytes: int
    sha256: str


class ModelFile(Part):
    """An .onnx file, and the files beside it that contain its weights.

    name is the file name, with folders only if the file of another model has the same name (names.py).
    """

    name: str
    file_bytes: int
    sha256: str
    weights: tuple[WeightsFile, ...]

    @property
    def all_bytes(self) -> int:
        return self.file_bytes + sum(file.file_bytes for file in self.weights)


class Launches(Part):
    """One time for each of several new processes."""

    median_ns: float
    samples_ns: tuple[int, ...]


class Round(Part):
    """One model's part of one round in one of the timing processes.

    runs, wall_ns and cpu_ns include all runs; some of the runs are kept as samples.
    """

    process: int
    samples_ns: tuple[int, ...]
    runs: int
    wall_ns: int
    cpu_ns: int | None


class WarmUp(Part):
    """The warm-up in one process."""

    runs: int
    settled: bool
    run_ns: float


class Steady(Part):
    """p99_ns is null below stats.P99_NEEDS samples; cpu_ns_per_run is the CPU time of all threads, null in a browser.

    other_cores is the number of cores that other programs used, null if it cannot be read or the time was too short.
    runs_per_sample is 1 for a precise clock. For a coarse clock, as in a browser, each sample is the mean of up to
    runs_per_sample runs, and timer_step_ns is the clock step divided by runs_per_sample.
    """

    median_ns: float
    p90_ns: float
    p99_ns: float | None
    rel_mad: float
    sample_count: int
    cpu_ns_per_run: float | None
    timer_step_ns: int
    runs_per_sample: int
    other_cores: float | None
    warm_ups: tuple[WarmUp, ...]
    rounds: tuple[Round, ...]


class Stage(Part):
    anonymous_bytes: int
    file_bytes: int


class Memory(Part):
    """The memory of one process: onnxruntime imported, model loaded, model run once; and the peak since the import."""

    imported: Stage
    loaded: Stage
    ran: Stage
    peak_bytes: int
    peak_reset: bool
    swapped_bytes: int


class HeapStage(Part):
    """The wasm heap, which only grows, and the memory of page, workers and heap together as the browser reports it."""

    heap_bytes: int | None
    page_bytes: int | None


class Heap(Part):
    """The memory of one worker in a browser: runtime started, model loaded, model run once. There is no peak."""

    imported: HeapStage
    loaded: HeapStage
    ran: HeapStage


class Baseline(Part):
    """The null model. peak_bytes is the median of its launches."""

    threads: int
    steady: Steady
    memory: tuple[Memory, ...]
    peak_bytes: int | None


class ArrayInfo(Part):
    """Name, dtype and shape of an input array."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


class Cell(Part):
    """inputs are the arrays that the model was run with, null in a record that was converted from version 3.

    peak_above_baseline_bytes is memory.peak_bytes minus the baseline's peak_bytes at the same thread count.

    native_variant is the variant of the native kernels that was loaded with the model, null if none was.
    not_compared is the reason why this cell has no entry in speeds, null if it has one and for the first model.
    """

    model: int = Field(description="index into models")
    threads: int
    batch: int
    inputs: tuple[ArrayInfo, ...] | None
    native_variant: str | None
    load: Launches
    first: Launches
    steady: Steady
    memory: Memory | None
    memory_missing: str | None
    heap: Heap | None
    peak_above_baseline_bytes: int | None
    not_compared: str | None
    warnings: tuple[str, ...]


class Speed(Part):
    """How many times as fast as the first model a model is. Above 1 is faster.

    median is the median over rounds of (first model's median / this model's median). low and high are a 95 % interval
    over processes and rounds, null if there are too few rounds.
    """

    model: int
    threads: int
    batch: int
    median: float
    low: float | None
    high: float | None
