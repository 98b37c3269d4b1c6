"""Check the answers of devices once, before they are used. A device is another program, perhaps on another machine.

runtime/probes/plain.py checks types and ranges. This file also checks that counts are those of the question, that the
parts of a time add up to no more than the whole, that nothing took longer than this machine waited, and that texts are
short and printable.
"""

import math
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from edgefc.errors import DeviceError
from edgefc.runtime.probes.contracts import (
    Block,
    Heap,
    LoadAnswer,
    LoadQuestion,
    Memory,
    MemoryAnswer,
    MemoryQuestion,
    Output,
    Question,
    RunAnswer,
    RunQuestion,
    SteadyAnswer,
    SteadyQuestion,
    Timed,
    TrialAnswer,
    TrialQuestion,
)
from edgefc.runtime.probes.memory import SLACK_BYTES
from edgefc.runtime.probes.plain import read
from edgefc.runtime.signature import NUMBERS, Array
from edgefc.screen import visible

T = TypeVar("T")
A = TypeVar("A")

_LONGEST = 300  # characters of a text
_LONGEST_NAME = 10_000  # characters of the name of an input or output
_BYTES = "data"  # the field that holds an array in base64
_SLACK_NS = 50_000_000
_MOST_BYTES = 1 << 50  # of memory


@dataclass(frozen=True)
class Answers:
    """Checks the answers of one device.

    refuse makes an error from a reason. A time by the device's clock may exceed one by this machine's clock by
    the factor `slack`. The clock of a browser is coarse: a load may take zero time, and a sample may be off by one
    step. A browser reports no CPU time and no peak memory, and has no native kernels.
    """

    refuse: Callable[[str], DeviceError]
    slack: float
    in_browser: bool = False

    def read(self, kind: type[T], value: Any) -> T:
        """Convert parsed JSON to the dataclass `kind`.

        Raises:
            DeviceError: a field is wrong, or a text is too long or has control characters.
        """
        try:
            _check_texts(value)
            return read(kind, value)
        except RecursionError:
            raise self.refuse("it is nested too deeply") from None
        except ValueError as error:
            raise self.refuse(str(error)) from None

    def answer(self, question: Question[A], value: Any, took_ns: float) -> A:
        """Convert parsed JSON to the answer to `question`. It arrived after took_ns by the clock of this machine.

        Raises:
            DeviceError: the answer is invalid.
        """
        answer: A = self.read(question.answer, value)
        try:
            self._check(question, answer, took_ns)
        except ValueError as error:
            raise self.refuse(str(error)) from None
        return answer

    def array(self, output: Output) -> Array:
        """The array of an output.

        Raises:
            DeviceError: the dtype is not numeric, or the size of the data does not match dtype and shape.
        """
        what = f"output {output.name[:_LONGEST]!r}"
        try:
            data = b64decode(output.data, validate=True) if output.dtype in NUMBERS else None
        except ValueError:
            data = None
        if data is None:
            raise self.refuse(f"{what} with the invalid dtype {output.dtype} or invalid data")
        dtype = np.dtype(output.dtype)
        if math.prod(output.shape) * dtype.itemsize != len(data) or len(output.shape) > 64:
            raise self.refuse(f"{len(data)} bytes for {what} {output.dtype}{list(output.shape)[:64]}")
        return np.frombuffer(data, dtype).reshape(output.shape).copy()

    def _check(self, question: Question[Any], answer: Any, took_ns: float) -> None:
        if isinstance(question, TrialQuestion):
            _check_trial(question, answer)
        elif isinstance(question, LoadQuestion):
            self._check_load(question, answer, took_ns)
        elif isinstance(question, SteadyQuestion):
            self._check_steady(question, answer, took_ns)
        elif isinstance(question, RunQuestion):
            _check_run(question, answer)
        elif isinstance(question, MemoryQuestion):
            self._check_memory(answer)

    def _check_load(self, question: LoadQuestion, answer: LoadAnswer, took_ns: float) -> None:
        if answer.load_ns == 0 and not self.in_browser:
            raise ValueError("the load took no time")
        self._fits("load and first run", answer.load_ns + answer.first_ns + (answer.start_ns or 0), took_ns)
        if answer.used_native is not None and (self.in_browser or question.model.options.native == "off"):
            raise ValueError("native kernels were loaded although they were not requested")

    def _check_memory(self, answer: MemoryAnswer) -> None:
        if (answer.memory is None) != bool(answer.missing) or (answer.heap is not None) != self.in_browser:
            raise ValueError(
                "it has neither memory nor a reason for missing memory, or values that such a device cannot measure"
            )
        if answer.memory is not None:
            _check_process(answer.memory)
        if answer.heap is not None:
            _check_heap(answer.heap)

    def _check_steady(self, question: SteadyQuestion, answer: SteadyAnswer, took_ns: float) -> None:
        models, rounds = len(question.models), {len(timed.blocks) for timed in answer.timed}
        if len(answer.timed) != models:
            raise ValueError(f"it timed {len(answer.timed)} models instead of {models}")
        if len(rounds) > 1 or max(rounds) > question.plan.rounds:
            raise ValueError(
                f"{max(rounds)} rounds; expected at most {question.plan.rounds}, and the same number for each model"
            )
        self._fits("timing", answer.wall_ns, took_ns)
        self._fits("all blocks", sum(block.wall_ns for timed in answer.timed for block in timed.blocks), answer.wall_ns)
        if self.in_browser and not answer.timer_step_ns:
            raise ValueError("the clock has no step")
        for timed in answer.timed:
            for block in timed.blocks:
                self._check_block(block, timed, answer.timer_step_ns)

    def _check_block(self, block: Block, timed: Timed, step_ns: int) -> None:
        count, spent_ns = len(block.samples_ns), sum(block.samples_ns) * timed.runs_per_sample
        slack_ns = count * step_ns if self.in_browser else 0
        if self.in_browser and block.cpu_ns is not None:
            raise ValueError(f"a CPU time of {block.cpu_ns} ns, which a browser cannot measure")
        if not (min(timed.warm_up.run_ns, *block.samples_ns) if self.in_browser else spent_ns):
            raise ValueError("the runs took no time")
        if count > block.runs // timed.runs_per_sample or spent_ns > self.slack * block.wall_ns + slack_ns:
            raise ValueError(f"{count} samples of {spent_ns} ns in total, in {block.runs} runs and {block.wall_ns} ns")

    def _fits(self, what: str, part_ns: float, whole_ns: float) -> None:
        if part_ns > self.slack * whole_ns + _SLACK_NS:
            raise ValueError(f"{part_ns / 1e9:.3g} s for {what}, within {whole_ns / 1e9:.3g} s")


def _check_trial(question: TrialQuestion, answer: TrialAnswer) -> None:
    models, batches = len(question.models), question.batches
    if len(answer.rows) != len(batches) or any(len(row) != models for row in answer.rows):
        raise ValueError("it does not have one batch size for each model and batch")
    for row, batch in zip(answer.rows, batches, strict=True):
        if batch is not None and any(trial.batch not in (batch, 1) for trial in row):  # 1 if no input has a dimension
            raise ValueError("a batch size that was not requested")


def _check_run(question: RunQuestion, answer: RunAnswer) -> None:
    if len(answer.models) != len(question.models):
        raise ValueError(f"outputs of {len(answer.models)} models instead of {len(question.models)}")


def _check_process(memory: Memory) -> None:
    for stage in (memory.imported, memory.loaded, memory.ran):
        least, held = min(stage.anonymous_bytes, stage.file_bytes), stage.held_bytes
        if least < 0 or held <= 0 or memory.peak_bytes + SLACK_BYTES < held:
            raise ValueError("the memory of a stage is impossible: negative, zero or above the peak")
    if not 0 <= memory.swapped_bytes <= _MOST_BYTES or memory.peak_bytes > _MOST_BYTES:
        raise ValueError(f"the memory is negative or above {_MOST_BYTES} bytes")


def _check_heap(heap: Heap) -> None:
    sizes = [heap.imported.heap_bytes, heap.loaded.heap_bytes, heap.ran.heap_bytes]
    known = [size for size in sizes if size is not None]
    if known != sorted(known) or len(known) not in (0, len(sizes)):
        raise ValueError(f"heap sizes {sizes}: a wasm heap does not shrink")


def _check_texts(value: Any, most: int = _LONGEST) -> None:
    """Reject texts with control characters, which a terminal may interpret, and texts that are too long."""
    if isinstance(value, str):
        if visible(value) != value:
            raise ValueError("a text has control characters")
        if len(value) > most:
            raise ValueError(f"a text has {len(value)} characters, at most {most} expected")
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_texts(key)
            if key != _BYTES or not isinstance(inner, str):
                _check_texts(inner, _LONGEST_NAME if key == "name" else _LONGEST)
    elif isinstance(value, list):
        for inner in value if not all(isinstance(inner, int) for inner in value) else ():
            _check_texts(inner)
