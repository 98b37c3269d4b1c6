"""What a page answers, checked: it is another program, perhaps on another machine, so nothing in it is believed unread.

Each check returns plain data in the form of the Python probes' answers, or raises DeviceError with what cannot be.
"""

import math
from base64 import b64decode
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import AfterValidator, Field, ValidationError

from edgefc.devices.browser.refusals import refusal
from edgefc.errors import DeviceError
from edgefc.runtime.profiling.parts import Part
from edgefc.runtime.signature import Array, TensorInfo

_LONGEST = 300  # characters of a name or a version
_SLACK = 1.05  # a page's clock against this machine's
_SLACK_NS = 50_000_000


def _printable(text: str) -> str:
    """Nothing that a terminal would obey."""
    if not text.isprintable():
        raise ValueError("a text with control characters")
    return text


Text = Annotated[str, Field(max_length=_LONGEST), AfterValidator(_printable)]
Count = Annotated[int, Field(ge=0, le=1 << 62)]
Positive = Annotated[int, Field(ge=1, le=1 << 62)]
Model = TypeVar("Model", bound=Part)


class Facts(Part):
    """What a browser tells of itself when its page says hello."""

    user_agent: Text
    brands: Annotated[list[Text], Field(max_length=20)]
    platform: Text | None
    platform_version: Text | None
    architecture: Text | None
    bitness: Text | None
    model: Text | None
    mobile: bool | None
    cores: Annotated[int, Field(ge=1, le=4096)] | None
    isolated: bool
    secure: bool
    timer_step_ns: Positive


class PortFact(Part):
    """One input or output. onnxruntime-web leaves type and shape away for what is no tensor."""

    name: Annotated[str, Field(max_length=10_000)]
    isTensor: bool
    type: Text = "?"
    shape: Annotated[list[Annotated[int, Field(ge=0, le=1 << 40)] | Text], Field(max_length=64)] = Field(default=[])

    def port(self) -> TensorInfo:
        dtype = {"string": "str"}.get(self.type, self.type)
        return TensorInfo(
            self.name, dtype, tuple(size if isinstance(size, int) else size or "?" for size in self.shape)
        )


class Ports(Part):
    inputs: Annotated[list[PortFact], Field(max_length=10_000)]
    outputs: Annotated[list[PortFact], Field(max_length=10_000)]


class Load(Part):
    load_ns: Count
    first_ns: Count
    start_ns: Count


class Held(Part):
    heap_bytes: Annotated[int, Field(ge=1, le=1 << 40)] | None
    page_bytes: Annotated[int, Field(ge=1, le=1 << 44)] | None


class Stages(Part):
    imported: Held
    loaded: Held
    ran: Held
    outputs: Count


class WarmUp(Part):
    runs: Positive
    settled: bool
    run_ns: Annotated[float, Field(gt=0)]


class Block(Part):
    samples_ns: Annotated[list[Positive], Field(min_length=1, max_length=10_000_000)]
    runs: Positive
    wall_ns: Positive
    cpu_ns: None


class Timed(Part):
    warm_up: WarmUp
    blocks: Annotated[list[Block], Field(min_length=1)]
    runs_per_sample: Positive
    timer_step_ns: Positive


class Steady(Part):
    timed: list[Timed]
    clock_step_ns: Positive
    wall_ns: Positive


class Output(Part):
    name: Annotated[str, Field(max_length=10_000)]
    dtype: Text
    shape: Annotated[list[Count], Field(max_length=64)]
    data: str


class Run(Part):
    """The outputs of one model, or why there are none."""

    outputs: Annotated[list[Output], Field(max_length=10_000)] = Field(default=[])
    error: str | None = None
    stage: Text = "run"


def read(kind: type[Model], value: Any, what: str = "an answer") -> Model:
    """`value`, which was JSON, as this kind of answer."""
    try:
        return kind.of(value)
    except (ValidationError, ValueError, TypeError, RecursionError) as error:
        raise DeviceError(f"the page gave {what} that cannot be: {_fault(error)}. Load the page again.") from None


def _fault(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "it is no JSON" if not isinstance(error, RecursionError) else "lists within each other, too deep"
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "its form"
    return f"{where}: {first['msg']}"


def load_of(value: Any, took_ns: int) -> dict[str, Any]:
    found = read(Load, value)
    _fits(found.load_ns + found.first_ns + found.start_ns, took_ns, "load and first run")
    return {"load_ns": found.load_ns, "first_ns": found.first_ns, "used_native": None}


def heap_of(value: Any) -> dict[str, Any]:
    """Fields of parts.Heap."""
    found = read(Stages, value)
    stages = {"imported": found.imported, "loaded": found.loaded, "ran": found.ran}
    heaps = [held.heap_bytes for held in stages.values()]
    known = [heap for heap in heaps if heap is not None]
    if known != sorted(known) or len(known) not in (0, len(heaps)):
        raise DeviceError(f"the page gave sizes of a heap that shrinks, {heaps}, as no wasm heap does.")
    return {name: held.model_dump() for name, held in stages.items()}


def steady_of(value: Any, models: int, rounds: int, took_ns: int) -> dict[str, Any]:
    found = read(Steady, value)
    if len(found.timed) != models:
        raise DeviceError(f"the page timed {len(found.timed)} models and was asked for {models}. Load it again.")
    walls = sum(block.wall_ns for timed in found.timed for block in timed.blocks)
    _fits(found.wall_ns, took_ns, "timing")
    _fits(walls, found.wall_ns, "all blocks")
    for timed in found.timed:
        _possible(timed, rounds, found.clock_step_ns)
    return {
        "timed": [timed.model_dump() for timed in found.timed], "timer_step_ns": found.clock_step_ns,
        "other_cores": None,
    }  # fmt: skip


def outputs_of(value: Any, models: list[str]) -> list[dict[str, Array]]:
    if not isinstance(value, list) or len(value) != len(models):
        raise DeviceError(f"the page did not answer for each of {len(models)} models. Load it again.")
    found = []
    for model, one in zip(models, value, strict=True):
        run = read(Run, one)
        if run.error is not None:
            raise refusal(model, run.stage, run.error)
        found.append({output.name: _array(output) for output in run.outputs})
    return found


def _possible(timed: Timed, rounds: int, step_ns: int) -> None:
    if len(timed.blocks) > rounds:
        raise DeviceError(f"the page gave {len(timed.blocks)} rounds and was asked for {rounds}. Load it again.")
    for block in timed.blocks:
        most = block.runs // timed.runs_per_sample
        spent = sum(block.samples_ns) * timed.runs_per_sample
        if len(block.samples_ns) > most or spent > _SLACK * block.wall_ns + len(block.samples_ns) * step_ns:
            raise DeviceError(
                f"the page gave {len(block.samples_ns)} samples of {spent} ns together in a round of {block.runs} "
                f"runs and {block.wall_ns} ns, which cannot be. Load it again."
            )


def _fits(told_ns: int, took_ns: int, what: str) -> None:
    if told_ns > _SLACK * took_ns + _SLACK_NS:
        raise DeviceError(
            f"the page says that {what} took {told_ns / 1e9:.3g} s, but its answer came after {took_ns / 1e9:.3g} s. "
            f"Its clock cannot be used."
        )


def _array(one: Output) -> Array:
    try:
        dtype, data = np.dtype(one.dtype), b64decode(one.data, validate=True)
    except (TypeError, ValueError):
        raise DeviceError(f"the page gave output {one.name!r} as {one.dtype}, which is no array of numbers.") from None
    if dtype.kind not in "biuf" or math.prod(one.shape) * dtype.itemsize != len(data):
        raise DeviceError(f"the page gave {len(data)} bytes for output {one.name!r} {one.dtype}{one.shape}.")
    return np.frombuffer(data, dtype).reshape(one.shape).copy()
