"""The question and the answer of each probe, one frozen dataclass each, on every kind of device.

    probe    question         answer         the probe
    trial    TrialQuestion    TrialAnswer    loads and runs each model once at each batch size
    load     LoadQuestion     LoadAnswer     times one load and one first run
    memory   MemoryQuestion   MemoryAnswer   reads a process's memory before loading, after loading and after one run
    steady   SteadyQuestion   SteadyAnswer   times models in interleaved rounds
    run      RunQuestion      RunAnswer      returns the outputs
    work     WorkQuestion     WorkAnswer     lists every node that onnxruntime executed
    facts    FactsQuestion    FactsAnswer    describes the machine

They are sent as JSON (plain.py). profile() asks its runner. The runner asks a child process (child.py), the agent of a
board (devices/agent) or a page (devices/browser), and receives the same types from each. Names of fields end in their
unit. Part of the agent: Python 3.9 evaluates the annotations, so they use Optional[int] instead of int | None.
"""  # fmt: skip
# ruff: noqa: UP045

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, Optional, TypeVar

from edgefc.runtime.inputs import Wanted
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes.plain import FULL, Range

A = TypeVar("A")

Count = Annotated[int, Range(0, 2**53)]
Positive = Annotated[int, Range(1, 2**53)]
Nanoseconds = Annotated[float, Range(0, 2**53)]


class Question(Generic[A]):
    """Base class of all questions. A is the type of the answer."""

    probe: ClassVar[str]
    answer: ClassVar[type[Any]]


@dataclass(frozen=True)
class ModelToRun:
    """The path of a model where the probe runs, and how to run it."""

    path: str
    options: SessionOptions


@dataclass(frozen=True)
class ArrayInfo:
    """Name, dtype and shape of an input array."""

    name: str
    dtype: str
    shape: tuple[Count, ...]


@dataclass(frozen=True)
class Trial:
    """The batch size and the inputs of one model in a trial."""

    batch: Count
    inputs: tuple[ArrayInfo, ...]


@dataclass(frozen=True)
class TrialAnswer:
    """rows has one row for each batch, and each row one entry for each model."""

    rows: tuple[tuple[Trial, ...], ...]


@dataclass(frozen=True)
class TrialQuestion(Question[TrialAnswer]):
    """batches: the batch sizes to try, which override the one of `wanted`. None is the model's own size."""

    probe, answer = "trial", TrialAnswer

    models: tuple[ModelToRun, ...]
    wanted: Wanted
    batches: tuple[Optional[int], ...]


@dataclass(frozen=True)
class LoadAnswer:
    """start_ns is the time to start onnxruntime, null if it is not measured.

    used_native is the variant of the native kernels that was loaded, null if none was.
    """

    load_ns: Count
    first_ns: Count
    start_ns: Optional[Count]
    used_native: Optional[str]


@dataclass(frozen=True)
class LoadQuestion(Question[LoadAnswer]):
    probe, answer = "load", LoadAnswer

    model: ModelToRun
    wanted: Wanted


@dataclass(frozen=True)
class Stage:
    """The memory of a process at one moment."""

    anonymous_bytes: int
    file_bytes: int

    @property
    def held_bytes(self) -> int:
        return self.anonymous_bytes + self.file_bytes


@dataclass(frozen=True)
class Memory:
    """The memory of one process: onnxruntime imported, model loaded, model run once; and the peak since the import."""

    imported: Stage
    loaded: Stage
    ran: Stage
    peak_bytes: int
    peak_reset: bool
    swapped_bytes: int


@dataclass(frozen=True)
class HeapStage:
    """The size of the wasm heap, and the memory of page, workers and heap together as the browser reports it."""

    heap_bytes: Optional[Annotated[int, Range(1, 1 << 40)]]
    page_bytes: Optional[Annotated[int, Range(1, 1 << 44)]]


@dataclass(frozen=True)
class Heap:
    """The same stages in a browser, which does not report a peak."""

    imported: HeapStage
    loaded: HeapStage
    ran: HeapStage


@dataclass(frozen=True)
class MemoryAnswer:
    """memory, or the reason why it is missing. A browser gives a heap and the reason."""

    memory: Optional[Memory]
    missing: Optional[str]
    heap: Optional[Heap] = None


@dataclass(frozen=True)
class MemoryQuestion(Question[MemoryAnswer]):
    probe, answer = "memory", MemoryAnswer

    model: ModelToRun
    wanted: Wanted


@dataclass(frozen=True)
class Plan:
    """time_ns is the time for each model in all rounds together. samples is about how many samples to keep of it."""

    time_ns: int
    rounds: int
    samples: int


@dataclass(frozen=True)
class WarmUp:
    """settled: whether the times stopped falling. run_ns is the median of the last warm-up window."""

    runs: Positive
    settled: bool
    run_ns: Nanoseconds


@dataclass(frozen=True)
class Block:
    """One model's part of one round. runs, wall_ns and cpu_ns include all runs; some runs are kept as samples."""

    samples_ns: Annotated[tuple[Count, ...], FULL]
    runs: Positive
    wall_ns: Count
    cpu_ns: Optional[Count]


@dataclass(frozen=True)
class Timed:
    """The timing of one model. Each sample is the mean of up to runs_per_sample runs: 1 for a precise clock."""

    warm_up: WarmUp
    blocks: Annotated[tuple[Block, ...], FULL]
    runs_per_sample: Positive = 1


@dataclass(frozen=True)
class SteadyAnswer:
    """wall_ns is the total time. other_cores is the number of cores that other programs used, null if it is unknown."""

    timed: tuple[Timed, ...]
    timer_step_ns: Count
    wall_ns: Count
    other_cores: Optional[Annotated[float, Range(0, 4096)]]

    def step_ns(self, model: int) -> int:
        """The clock step divided by the runs per sample of that model, rounded up."""
        return -(-self.timer_step_ns // self.timed[model].runs_per_sample)


@dataclass(frozen=True)
class SteadyQuestion(Question[SteadyAnswer]):
    probe, answer = "steady", SteadyAnswer

    models: tuple[ModelToRun, ...]
    wanted: Wanted
    plan: Plan


@dataclass(frozen=True)
class Output:
    """One output array. data is its bytes in base64, in row-major order."""

    name: str
    dtype: str
    shape: tuple[Count, ...]
    data: str


@dataclass(frozen=True)
class ModelOutputs:
    """The outputs of one model."""

    outputs: tuple[Output, ...]
    used_native: Optional[str]


@dataclass(frozen=True)
class RunAnswer:
    """models has one entry for each model."""

    models: tuple[ModelOutputs, ...]


@dataclass(frozen=True)
class RunQuestion(Question[RunAnswer]):
    probe, answer = "run", RunAnswer

    models: tuple[ModelToRun, ...]
    wanted: Wanted


@dataclass(frozen=True)
class NodeOutput:
    """An output of a node. value is its name, "" if it is unknown."""

    value: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class NodeInput:
    """An input of a node. value is its name, "" if an optional input is left out.

    weight is a unique key for each weight of the model, null for an input that is not a weight. packed: whether
    onnxruntime packed the weight at load.
    """

    value: str
    weight: Optional[str]
    packed: bool
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Executed:
    """One node that onnxruntime executed."""

    name: str
    op: str
    inputs: tuple[NodeInput, ...]
    outputs: tuple[NodeOutput, ...]


@dataclass(frozen=True)
class WorkAnswer:
    """nodes has every executed node, in order."""

    batch: Count
    nodes: tuple[Executed, ...]


@dataclass(frozen=True)
class WorkQuestion(Question[WorkAnswer]):
    """The model runs by its bodies, without native kernels. folder is an empty folder for files of onnxruntime."""

    probe, answer = "work", WorkAnswer

    path: str
    wanted: Wanted
    folder: str


@dataclass(frozen=True)
class FactsAnswer:
    """The fields of a record's Environment except the date, because a board may have no clock."""

    machine: str
    board: Optional[str]
    virtual: Optional[bool]
    emulated: Optional[bool]
    cpu: Optional[str]
    features: Optional[tuple[str, ...]]
    cores: int
    usable_cores: Optional[int]
    governor: Optional[str]
    frequency_hz: Optional[int]
    max_frequency_hz: Optional[int]
    memory_bytes: Optional[int]
    load_1min: Optional[float]
    os: str
    python: Optional[str]
    implementation: str
    onnxruntime: str
    numpy: Optional[str]
    edgefc: str
    missing: dict[str, str]


@dataclass(frozen=True)
class FactsQuestion(Question[FactsAnswer]):
    probe, answer = "facts", FactsAnswer
