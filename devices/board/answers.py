"""What probes on a device may answer. Anything else is a DeviceError: a broken device gives no record.

Besides types and sizes: counts are those that were asked for, the parts of a time add up to no more than the whole,
and nothing took longer than this machine waited for it.
"""

import base64
import io
import json
import zipfile
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from edgefc.errors import DeviceError, shortened
from edgefc.runtime.inputs import BROKEN
from edgefc.runtime.probes import run
from edgefc.runtime.profiling.parts import Environment, Heat, Memory, Part
from edgefc.runtime.signature import Array
from edgefc.screen import visible

_LONGEST_TEXT = 300
_CLOCKS = 1.02  # two clocks agree to this factor, or one of them is broken
_SLACK_NS = 50_000_000
_PAGES = 1 << 20  # bytes that the kernel's counters may disagree by, as in memory.py

Count = Annotated[int, Field(ge=0, le=2**53)]
Text = Annotated[str, Field(max_length=_LONGEST_TEXT)]
Clock = Annotated[float, Field(ge=-1e12, le=1e12)]  # seconds since 1970


class _WarmUp(Part):
    runs: Annotated[int, Field(ge=1, le=2**40)]
    settled: bool
    run_ns: Annotated[float, Field(ge=0, le=2.0**53)]


class _Block(Part):
    samples_ns: Annotated[tuple[Count, ...], Field(min_length=1, max_length=1_000_000)]
    runs: Annotated[int, Field(ge=1, le=2**40)]
    wall_ns: Count
    cpu_ns: Count | None


class _Timed(Part):
    warm_up: _WarmUp
    blocks: Annotated[tuple[_Block, ...], Field(min_length=1, max_length=10_000)]


class _Steady(Part):
    timed: tuple[_Timed, ...]
    timer_step_ns: Count
    other_cores: Annotated[float, Field(ge=0, le=4096)] | None


class _Fed(Part):
    name: Text
    dtype: Text
    shape: Annotated[tuple[Count, ...], Field(max_length=64)]


class _Tried(Part):
    batch: Count
    inputs: Annotated[tuple[_Fed, ...], Field(max_length=10_000)]


class _Load(Part):
    load_ns: Count
    first_ns: Count
    used_native: Text | None


class _Missing(Part):
    missing: Annotated[str, Field(min_length=1, max_length=_LONGEST_TEXT)]


class _Run(Part):
    names: Annotated[tuple[Text, ...], Field(max_length=1000)]
    npz: str
    used_native: Text | None


class _HeatWait(Heat):
    waited_s: Annotated[float, Field(ge=0, le=1e6)]


class Facts(Part):
    """What the agent answers to "check"; a None could not be read there."""

    python: Text
    machine: Text
    os: Text
    libc: Text | None
    numpy: Text | None
    numpy_missing: Text | None
    onnxruntime: Text | None
    onnxruntime_missing: Text | None
    native: bool
    cores: Count | None
    memory_bytes: Count | None
    memory_free_bytes: Count | None
    disk_free_bytes: Count
    governor: Text | None
    heat: Heat
    clock_s: Clock
    pip: bool


class _Hello(Part):
    protocol: int
    edgefc: Text
    python: Text
    machine: Text
    clock_s: Clock
    swept: Count
    run: Text
    killed_for_memory: Count | None


_FORMS: dict[str, TypeAdapter[Any]] = {
    "trial": TypeAdapter(list[list[_Tried]]),
    "load": TypeAdapter(_Load),
    "memory": TypeAdapter(Memory | _Missing),
    "steady": TypeAdapter(_Steady),
    "run": TypeAdapter(list[_Run]),
    "facts": TypeAdapter(Environment),
    "heat": TypeAdapter(_HeatWait),
    "hello": TypeAdapter(_Hello),
    "check": TypeAdapter(Facts),
}


def checked(name: str, what: str, question: dict[str, Any], found: Any, waited_s: float) -> Any:
    """`found`, which device `name` answered to probe `what` after waited_s by this machine's clock.

    Raises:
        DeviceError: it cannot be true; the sentence says what is wrong.
    """
    try:
        _printable(found)
        part = _FORMS[what].validate_json(_json(found), strict=True)
        _DOUBTS.get(what, _nothing)(part, question, waited_s * 1e9 * _CLOCKS + _SLACK_NS)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        reason = f"{'.'.join(map(str, fault['loc']))[:80]}: {fault['msg']}"
    except RecursionError:
        reason = "lists or objects within each other, too deep"
    except ValueError as error:
        reason = str(error)
    else:
        return found
    raise DeviceError(f"{name} answered what cannot be ({reason}). Nothing of it was kept; run `edgefc devices check`.")


def arrays(name: str, found: dict[str, Any]) -> dict[str, Array]:
    """The outputs by name, of a checked answer of run. Pickles are refused, and archives that unpack to more."""
    try:
        packed = base64.b64decode(found["npz"], validate=True)
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            if sum(member.file_size for member in archive.infolist()) > 2 * run.LARGEST_BYTES:
                raise ValueError("it is larger than any that is sent")
        with np.load(io.BytesIO(packed), allow_pickle=False) as loaded:
            values = [loaded[f"arr_{index}"] for index in range(len(loaded.files))]
        return dict(zip(found["names"], values, strict=True))
    except BROKEN as error:
        raise DeviceError(f"{name} answered outputs that are no arrays: {shortened(error)!r}. Run it again.") from None


def _json(found: Any) -> bytes:
    return json.dumps(found).encode()


def _printable(found: Any) -> None:
    """No text that a terminal would obey, none that is longer than any that an honest device has."""
    if isinstance(found, str):
        if visible(found) != found:
            raise ValueError("a text with control characters")
    elif isinstance(found, dict):
        for key, value in found.items():
            _printable(key)
            _printable(value)
            if isinstance(value, str) and key != "npz" and len(value) > _LONGEST_TEXT:
                raise ValueError(f"a text of {len(value)} characters")
    elif isinstance(found, list):
        for value in found if not all(isinstance(value, int) for value in found) else ():
            _printable(value)


def _nothing(part: Any, question: dict[str, Any], limit_ns: float) -> None:
    pass


def _check(part: list[list[_Tried]], question: dict[str, Any], limit_ns: float) -> None:
    if len(part) != len(question["batches"]) or any(len(row) != len(question["models"]) for row in part):
        raise ValueError("not one batch size for each model and batch")
    for row, batch in zip(part, question["batches"], strict=True):
        if batch is not None and any(tried.batch not in (batch, 1) for tried in row):  # 1: no input has dimensions
            raise ValueError("another batch size than was asked for")


def _load(part: _Load, question: dict[str, Any], limit_ns: float) -> None:
    if part.load_ns == 0:
        raise ValueError("a load that took no time")
    if part.load_ns + part.first_ns > limit_ns:
        raise ValueError("a load and a run that took longer than the answer")
    if part.used_native is not None and question.get("native") == "off" and question["model"].get("native") is None:
        raise ValueError("native kernels where none were to be loaded")


def _run(part: list[_Run], question: dict[str, Any], limit_ns: float) -> None:
    if len(part) != len(question["models"]):
        raise ValueError("not one answer for each model")


def _memory(part: Memory | _Missing, question: dict[str, Any], limit_ns: float) -> None:
    if isinstance(part, _Missing):
        return
    for stage in (part.imported, part.loaded, part.ran):
        held = stage.anonymous_bytes + stage.file_bytes
        if min(stage.anonymous_bytes, stage.file_bytes) < 0 or held <= 0 or part.peak_bytes + _PAGES < held:
            raise ValueError("memory that no process can have held")
    if not 0 <= part.swapped_bytes <= 1 << 50 or part.peak_bytes > 1 << 50:
        raise ValueError("memory that no machine has")


def _steady(part: _Steady, question: dict[str, Any], limit_ns: float) -> None:
    if len(part.timed) != len(question["models"]):
        raise ValueError("not one timing for each model")
    if len({len(one.blocks) for one in part.timed}) > 1 or len(part.timed[0].blocks) > question["rounds"]:
        raise ValueError("another number of rounds than was asked for")
    blocks = [block for one in part.timed for block in one.blocks]
    for block in blocks:
        if sum(block.samples_ns) > block.wall_ns * _CLOCKS or len(block.samples_ns) > block.runs:
            raise ValueError("samples that take longer than their round")
    if sum(block.wall_ns for block in blocks) > limit_ns:
        raise ValueError("timings that took longer than the answer")
    if not all(sum(block.samples_ns) for block in blocks):
        raise ValueError("runs that took no time")


_DOUBTS: dict[str, Any] = {
    "trial": _check, "load": _load, "memory": _memory, "steady": _steady,
    "run": _run,
}  # fmt: skip
