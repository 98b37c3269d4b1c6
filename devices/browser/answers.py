"""Validate the answers of a page. The page is another program, perhaps on another machine, so nothing is trusted.

Each function returns plain data in the form of the Python probes' answers, or raises a DeviceError.
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
_SLACK = 1.05  # accepted ratio of the page's clock to this machine's clock
_SLACK_NS = 50_000_000


def _printable(text: str) -> str:
    """Reject text with control characters, which a terminal may interpret."""
    if not text.isprintable():
        raise ValueError("it has control characters")
    return text


Text = Annotated[str, Field(max_length=_LONGEST), AfterValidator(_printable)]
Count = Annotated[int, Field(ge=0, le=1 << 62)]
Positive = Annotated[int, Field(ge=1, le=1 << 62)]
Model = TypeVar("Model", bound=Part)


class Facts(Part):
    """The facts that the page of a browser sends with hello."""

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
    """One input or output. onnxruntime-web omits type and shape if it is not a tensor."""

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
    """The outputs of one model, or the error."""

    outputs: Annotated[list[Output], Field(max_length=10_000)] = Field(default=[])
    error: str | None = None
    stage: Text = "run"


def read(kind: type[Model], value: Any, what: str = "response") -> Model:
    """Validate `value`, which is decoded JSON, as an answer of this kind.

    Raises:
        DeviceError: the value is invalid.
    """
    try:
        return kind.of(value)
    except (ValidationError, ValueError, TypeError, RecursionError) as error:
        raise DeviceError(f"the page returned an invalid {what}: {_fault(error)}. Reload the page.") from None


def _fault(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "it is not JSON" if not isinstance(error, RecursionError) else "it is nested too deeply"
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"])) or "its form"
    return f"{where}: {first['msg']}"


def load_of(value: Any, took_ns: int) -> dict[str, Any]:
    answer = read(Load, value)
    _check_time(answer.load_ns + answer.first_ns + answer.start_ns, took_ns, "load and first run")
    return {"load_ns": answer.load_ns, "first_ns": answer.first_ns, "used_native": None}


def heap_of(value: Any) -> dict[str, Any]:
    """The fields of parts.Heap."""
    answer = read(Stages, value)
    stages = {"imported": answer.imported, "loaded": answer.loaded, "ran": answer.ran}
    heaps = [held.heap_bytes for held in stages.values()]
    known = [heap for heap in heaps if heap is not None]
    if known != sorted(known) or len(known) not in (0, len(heaps)):
        raise DeviceError(
            f"the page returned invalid heap sizes, {heaps}: a wasm heap does not shrink. Reload the page."
        )
    return {name: held.model_dump() for name, held in stages.items()}


def steady_of(value: Any, models: int, rounds: int, took_ns: int) -> dict[str, Any]:
    answer = read(Steady, value)
    if len(answer.timed) != models:
        raise DeviceError(f"the page timed {len(answer.timed)} models instead of {models}. Reload the page.")
    walls = sum(block.wall_ns for timed in answer.timed for block in timed.blocks)
    _check_time(answer.wall_ns, took_ns, "timing")
    _check_time(walls, answer.wall_ns, "all blocks")
    for timed in answer.timed:
        _check_blocks(timed, rounds, answer.clock_step_ns)
    return {
        "timed": [timed.model_dump() for timed in answer.timed], "timer_step_ns": answer.clock_step_ns,
        "other_cores": None,
    }  # fmt: skip


def outputs_of(value: Any, models: list[str]) -> list[dict[str, Array]]:
    if not isinstance(value, list) or len(value) != len(models):
        raise DeviceError(f"the page did not return outputs for each of {len(models)} models. Reload the page.")
    outputs = []
    for model, one in zip(models, value, strict=True):
        run = read(Run, one)
        if run.error is not None:
            raise refusal(model, run.stage, run.error)
        outputs.append({output.name: _array(output) for output in run.outputs})
    return outputs


def _check_blocks(timed: Timed, rounds: int, step_ns: int) -> None:
    if len(timed.blocks) > rounds:
        raise DeviceError(f"the page returned {len(timed.blocks)} rounds, at most {rounds} expected. Reload the page.")
    for block in timed.blocks:
        most = block.runs // timed.runs_per_sample
        spent = sum(block.samples_ns) * timed.runs_per_sample
        if len(block.samples_ns) > most or spent > _SLACK * block.wall_ns + len(block.samples_ns) * step_ns:
            raise DeviceError(
                f"the page returned an invalid round: {len(block.samples_ns)} samples of {spent} ns in total, in "
                f"{block.runs} runs and {block.wall_ns} ns. Reload the page."
            )


def _check_time(reported_ns: int, took_ns: int, what: str) -> None:
    if reported_ns > _SLACK * took_ns + _SLACK_NS:
        raise DeviceError(
            f"the page reports {reported_ns / 1e9:.3g} s for {what}, but its answer arrived after "
            f"{took_ns / 1e9:.3g} s, so its clock cannot be used. Use another browser."
        )


def _array(one: Output) -> Array:
    try:
        dtype, data = np.dtype(one.dtype), b64decode(one.data, validate=True)
    except (TypeError, ValueError):
        message = f"the page returned output {one.name!r} with the invalid dtype {one.dtype} or invalid data."
        raise DeviceError(f"{message} Reload the page.") from None
    if dtype.kind not in "biuf" or math.prod(one.shape) * dtype.itemsize != len(data):
        raise DeviceError(
            f"the page returned {len(data)} bytes for output {one.name!r} {one.dtype}{one.shape}. Reload the page."
        )
    return np.frombuffer(data, dtype).reshape(one.shape).copy()
