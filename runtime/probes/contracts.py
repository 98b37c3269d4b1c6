"""What each probe is asked and what it answers: one frozen dataclass for each, wherever the probe runs.

    probe    question         answer         the probe
    trial    TrialQuestion    TrialAnswer    loads and runs each model once at each batch size
    load     LoadQuestion     LoadAnswer     times one load and one first run
    memory   MemoryQuestion   MemoryAnswer   reads what a process holds before, while and after a model runs
    steady   SteadyQuestion   SteadyAnswer   times models in turns
    run      RunQuestion      RunAnswer      gives the outputs
    work     WorkQuestion     WorkAnswer     lists every node that onnxruntime executed
    facts    FactsQuestion    FactsAnswer    describes the machine

They travel as JSON (plain.py). profile() asks its runner, which asks a child process (child.py), the agent of a board
(devices/agent) or a page (devices/browser), and is given the same types by each. Part of the agent: Python 3.9, which
evaluates the annotations: Optional[int], never `int | None`. Names of fields end in their unit.
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
    """A is the type of the answer."""

    probe: ClassVar[str]
    answer: ClassVar[type[Any]]


@dataclass(frozen=True)
class ModelToRun:
    """A model where the probe finds it, and how to run it."""

    path: str
    options: SessionOptions


@dataclass(frozen=True)
class Fed:
    """One input as it was fed."""

    name: str
    dtype: str
    shape: tuple[Count, ...]


@dataclass(frozen=True)
class Tried:
    """A model's batch size, and its inputs."""

    batch: Count
    inputs: tuple[Fed, ...]


@dataclass(frozen=True)
class TrialAnswer:
    """A row for each batch, in it an entry for each model."""

    rows: tuple[tuple[Tried, ...], ...]


@dataclass(frozen=True)
class TrialQuestion(Question[TrialAnswer]):
    """batches: the sizes to try in the place of that in `wanted`; None for the model's own."""

    probe, answer = "trial", TrialAnswer

    models: tuple[ModelToRun, ...]
    wanted: Wanted
    batches: tuple[Optional[int], ...]


@dataclass(frozen=True)
class LoadAnswer:
    """start_ns is the time that onnxruntime took to start, null where that is no part of the measurement.

    used_native is the variant of the native kernels that was loaded, null for none.
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
    anonymous_bytes: int
    file_bytes: int

    @property
    def held_bytes(self) -> int:
        return self.anonymous_bytes + self.file_bytes


@dataclass(frozen=True)
class Memory:
    """Of one process: runtime imported, model loaded, model run once; and the peak since the import."""

    imported: Stage
    loaded: Stage
    ran: Stage
    peak_bytes: int
    peak_reset: bool
    swapped_bytes: int


@dataclass(frozen=True)
class Held:
    """A browser's wasm heap; and what the browser says that its page, workers and heap hold together."""

    heap_bytes: Optional[Annotated[int, Range(1, 1 << 40)]]
    page_bytes: Optional[Annotated[int, Range(1, 1 << 44)]]


@dataclass(frozen=True)
class Heap:
    """The same stages in a browser, which tells no peak."""

    imported: Held
    loaded: Held
    ran: Held


@dataclass(frozen=True)
class MemoryAnswer:
    """memory, or the reason why it is missing. A browser has a heap beside the reason."""

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
    """time_ns is the time spent on each model, shared out over the rounds; samples the most that are kept of it."""

    time_ns: int
    rounds: int
    samples: int


@dataclass(frozen=True)
class WarmUp:
    runs: Positive
    settled: bool
    run_ns: Nanoseconds


@dataclass(frozen=True)
class Block:
    """One model's part of one round: all runs count in runs, wall_ns and cpu_ns, some are kept as samples."""

    samples_ns: Annotated[tuple[Count, ...], FULL]
    runs: Positive
    wall_ns: Count
    cpu_ns: Optional[Count]


@dataclass(frozen=True)
class Timed:
    """Of one model. Each sample is the mean of up to runs_per_sample runs: 1 where the clock is fine."""

    warm_up: WarmUp
    blocks: Annotated[tuple[Block, ...], FULL]
    runs_per_sample: Positive = 1


@dataclass(frozen=True)
class SteadyAnswer:
    """wall_ns is the whole time. other_cores is what other programs used meanwhile, null where it cannot be read."""

    timed: tuple[Timed, ...]
    timer_step_ns: Count
    wall_ns: Count
    other_cores: Optional[Annotated[float, Range(0, 4096)]]

    def step_ns(self, model: int) -> int:
        """The part of the clock's step that falls to one run of that model."""
        return -(-self.timer_step_ns // self.timed[model].runs_per_sample)


@dataclass(frozen=True)
class SteadyQuestion(Question[SteadyAnswer]):
    probe, answer = "steady", SteadyAnswer

    models: tuple[ModelToRun, ...]
    wanted: Wanted
    plan: Plan


@dataclass(frozen=True)
class Output:
    """The array's bytes in base64, in row-major order."""

    name: str
    dtype: str
    shape: tuple[Count, ...]
    data: str


@dataclass(frozen=True)
class Ran:
    outputs: tuple[Output, ...]
    used_native: Optional[str]


@dataclass(frozen=True)
class RunAnswer:
    """An entry for each model."""

    models: tuple[Ran, ...]


@dataclass(frozen=True)
class RunQuestion(Question[RunAnswer]):
    probe, answer = "run", RunAnswer

    models: tuple[ModelToRun, ...]
    wanted: Wanted


@dataclass(frozen=True)
class Made:
    """An output of a node: the value's name, "" where it is not known."""

    value: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Taken:
    """An input of a node: the value's name, "" where an optional one is left out.

    weight is a key that tells the weights of a model apart, null for no weight; packed whether it was packed at load.
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
    inputs: tuple[Taken, ...]
    outputs: tuple[Made, ...]


@dataclass(frozen=True)
class WorkAnswer:
    batch: Count
    nodes: tuple[Executed, ...]


@dataclass(frozen=True)
class WorkQuestion(Question[WorkAnswer]):
    """The model runs by its bodies. folder is empty, for onnxruntime's files."""

    probe, answer = "work", WorkAnswer

    path: str
    wanted: Wanted
    folder: str


@dataclass(frozen=True)
class FactsAnswer:
    """The fields of a record's Environment but the date: a board may have no clock."""

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
