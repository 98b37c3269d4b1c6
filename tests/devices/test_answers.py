"""Every answer of a device is accepted or raises a DeviceError: no other error, no bad record."""

import copy
import json
import math
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefc.devices.agent.answers import Facts, HeatNow, Hello
from edgefc.devices.board.check import version
from edgefc.devices.board.client import Board, answers_of
from edgefc.devices.board.wire import Garbled, parsed
from edgefc.devices.transports.base import Transport
from edgefc.errors import DeviceError
from edgefc.runtime.inputs import Wanted
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes.contracts import (
    FactsQuestion,
    LoadQuestion,
    MemoryQuestion,
    ModelToRun,
    Output,
    Plan,
    Question,
    RunQuestion,
    SteadyQuestion,
    TrialQuestion,
)
from edgefc.runtime.probes.plain import encode, read
from tests.devices.test_check import GOOD

BLOCK = {"samples_ns": [100, 110], "runs": 4, "wall_ns": 450, "cpu_ns": 440}
WARM_UP = {"runs": 5, "settled": True, "run_ns": 105.0}
STEADY = {
    "timed": [{"warm_up": WARM_UP, "blocks": [BLOCK, BLOCK], "runs_per_sample": 1}], "timer_step_ns": 1,
    "wall_ns": 1000, "other_cores": 0.1,
}  # fmt: skip
OUTPUT = {"name": "y", "dtype": "float32", "shape": [1, 2], "data": "AACAPwAAAEA="}
MACHINE: dict[str, Any] = {
    "machine": "aarch64", "board": None, "virtual": None, "emulated": False, "cpu": None, "features": ["neon"],
    "cores": 4, "usable_cores": 4, "governor": None, "frequency_hz": None, "max_frequency_hz": None,
    "memory_bytes": 1 << 30, "load_1min": 0.5, "os": "Linux 6", "python": "3.11.2", "implementation": "cpython",
    "onnxruntime": "1.22.0", "numpy": "1.26.4", "edgefc": "1", "missing": {"board": "nobody names one"},
}  # fmt: skip
STAGE = {"anonymous_bytes": 40 << 20, "file_bytes": 20 << 20}
MEMORY = {
    "imported": STAGE, "loaded": STAGE, "ran": STAGE, "peak_bytes": 70 << 20, "peak_reset": True, "swapped_bytes": 0,
}  # fmt: skip
FED = {"batch": 1, "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 8]}]}
MODEL = ModelToRun("/there/m.onnx", SessionOptions(native="off"))
ANY = Wanted()
CASES: dict[str, tuple[Question[Any], Any]] = {
    "trial": (
        TrialQuestion((MODEL,), ANY, (None, 3)), {"rows": [[FED], [{**FED, "batch": 3}]]}
    ),
    "load": (LoadQuestion(MODEL, ANY), {"load_ns": 10, "first_ns": 10, "start_ns": None, "used_native": None}),
    "memory": (MemoryQuestion(MODEL, ANY), {"memory": MEMORY, "missing": None, "heap": None}),
    "steady": (SteadyQuestion((MODEL,), ANY, Plan(time_ns=1000, rounds=2, samples=4)), STEADY),
    "run": (RunQuestion((MODEL,), ANY), {"models": [{"outputs": [OUTPUT], "used_native": None}]}),
    "facts": (FactsQuestion(), MACHINE),
}  # fmt: skip
AGENTS: dict[str, tuple[type[Any], Any]] = {
    "check": (Facts, GOOD),
    "hello": (Hello, {
        "protocol": 1, "edgefc": "1", "python": "3", "machine": "x", "clock_s": 1.0, "swept": 0, "run": "1-a",
        "killed_for_memory": None,
    }),
    "heat": (HeatNow, {"heat": GOOD["heat"], "waited_s": 0.0}),
}  # fmt: skip
PI = answers_of("pi")


def checked(probe: str, answer: Any) -> Any:
    """As it is handed on, or DeviceError."""
    if probe in AGENTS:
        return PI.read(AGENTS[probe][0], answer)
    return PI.answer(CASES[probe][0], answer, 1e9)


@pytest.mark.parametrize("probe", [*CASES, *AGENTS])
def test_an_honest_answer_passes(probe: str) -> None:
    """And is, as JSON, what it was."""
    answer = {**CASES, **AGENTS}[probe][1]
    assert json.loads(encode(checked(probe, answer))) == answer


def changed(answer: Any, path: tuple[Any, ...], value: Any) -> Any:
    answer = copy.deepcopy(answer)
    if not path:
        return value
    place = answer
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return answer


@pytest.mark.parametrize(
    ("probe", "path", "value"),
    [
        ("trial", ("rows",), [[FED]]),
        ("trial", ("rows", 1, 0, "batch"), 4),
        ("trial", ("rows", 0), [FED, FED]),
        ("trial", ("rows", 0, 0), 1),
        ("trial", ("rows", 0, 0, "inputs", 0, "name"), "\x1b[2J"),
        ("trial", ("rows", 0, 0, "inputs", 0, "shape"), [-1]),
        ("steady", ("timed", 0, "blocks", 0, "samples_ns"), [0]),
        ("load", ("load_ns",), -1),
        ("load", ("load_ns",), 0),
        ("load", ("first_ns",), 10**12),
        ("load", ("used_native",), "neon"),
        ("load", ("used_native",), "\x1b[2J"),
        ("memory", ("memory", "peak_bytes"), 1),
        ("memory", ("memory", "peak_bytes"), 1 << 60),
        ("memory", ("memory", "ran", "file_bytes"), -5),
        ("memory", (), {"memory": None, "missing": "x" * 1000, "heap": None}),
        ("memory", (), {"memory": None, "missing": "", "heap": None}),
        ("memory", ("missing",), "both"),
        ("memory", ("heap",), {stage: {"heap_bytes": 1, "page_bytes": 1} for stage in ("imported", "loaded", "ran")}),
        ("steady", ("timed",), []),
        ("steady", ("timed", 0, "blocks"), []),
        ("steady", ("timed", 0, "blocks"), [BLOCK] * 3),
        ("steady", ("timed", 0, "blocks", 0, "samples_ns"), [1] * 9),
        ("steady", ("timed", 0, "blocks", 0, "samples_ns"), [400, 100]),
        ("steady", ("timed", 0, "blocks", 0, "samples_ns"), [-1]),
        ("steady", ("timed", 0, "blocks", 0, "wall_ns"), 10**10),
        ("steady", ("timed", 0, "blocks", 0, "runs"), 0),
        ("steady", ("timed", 0, "blocks", 0, "cpu_ns"), "0"),
        ("steady", ("timed", 0, "warm_up", "run_ns"), "fast"),
        ("steady", ("other_cores",), -0.5),
        ("steady", ("more",), 1),
        ("steady", ("wall_ns",), 10**10),
        ("run", ("models",), []),
        ("facts", ("cores",), None),
    ],
    ids=str,
)
def test_an_answer_that_cannot_be(probe: str, path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(DeviceError, match="pi returned an invalid answer") as caught:
        checked(probe, changed(CASES[probe][1], path, value))
    assert caught.value.device == "pi"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"data": "AAAA"}, r"3 bytes for output 'y' float32\[1, 2\]"),
     ({"data": "!"}, "the invalid dtype float32 or invalid data"),
     ({"dtype": "object"}, "the invalid dtype object"), ({"dtype": "V8"}, "the invalid dtype V8"),
     ({"shape": [1 << 40, 1 << 40]}, "8 bytes for output"), ({"shape": [1] * 64 + [2]}, "8 bytes for output")],
    ids=str,
)  # fmt: skip
def test_outputs_that_are_no_arrays(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        PI.array(read(Output, {**OUTPUT, **change}))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)


@settings(max_examples=60, deadline=None)
@given(probe=st.sampled_from(sorted(CASES)), value=VALUES, data=st.data())
def test_any_answer_is_kept_whole_or_refused(probe: str, value: Any, data: st.DataObject) -> None:
    answer = CASES[probe][1]
    path = data.draw(st.sampled_from([(), *paths(answer)]))
    answer = changed(answer, path, value)
    try:
        kept = checked(probe, answer)
    except DeviceError as error:
        assert_one_sentence(str(error))
    else:
        assert json.loads(encode(kept)) == answer


def assert_one_sentence(message: str) -> None:
    assert "\n" not in message and len(message) < 600


def paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, each in inner for found in ((*above, key), *paths(each, (*above, key)))]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_an_object_or_garbled(line: bytes) -> None:
    try:
        found = parsed(line)
    except Garbled as error:
        found, message = {}, str(error)
        assert_one_sentence(message)
    assert isinstance(found, dict)


@pytest.mark.parametrize("line", [b'{"a": NaN}', b'{"a": -Infinity}', b"[" * 100_000, b"", b"7", b"\xff"], ids=range(6))
def test_lines_that_are_none(line: bytes) -> None:
    with pytest.raises(Garbled):
        parsed(line)


@pytest.mark.parametrize("probe", [*AGENTS, *CASES])
def test_what_is_nested_too_deep(probe: str) -> None:
    """At every depth that the parser of JSON lets through."""
    for depth in (100, 300, *range(600, 1000, 50)):
        deep: Any = {}
        for _ in range(depth):
            deep = {"a": [deep]}
        for answer in (deep, {"python": deep}):
            with pytest.raises(DeviceError) as caught:
                checked(probe, answer)
            assert_one_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("what", "change"),
    [("check", {"python": "\x1b[2J"}), ("check", {"numpy": "1\n2"}), ("check", {"clock_s": 1e300}),
     ("check", {"more": 1}), ("check", {"cores": -1}), ("check", {"libc": "x" * 400}), ("check", {"governor": 7}),
     ("hello", {"clock_s": 1e300}), ("hello", {"run": "\x07"}), ("hello", {"killed_for_memory": -1}),
     ("hello", {"machine": ["x"]})],
    ids=str,
)  # fmt: skip
def test_facts_that_cannot_be(what: str, change: dict[str, Any]) -> None:
    good = AGENTS[what][1]
    with pytest.raises(DeviceError, match="pi returned an invalid answer"):
        checked(what, {**good, **change})


def test_digits_of_other_scripts_are_no_version() -> None:
    assert version("3.\u00b2") == (3,) and version("\u0663.1") == ()


def test_json_has_no_other_number_that_is_none() -> None:
    """1e999 is infinity to Python; the forms refuse it."""
    assert math.isinf(parsed(b'{"a": 1e999}')["a"])
    with pytest.raises(DeviceError):
        checked("steady", changed(STEADY, ("other_cores",), math.inf))


class Liar(Transport):
    """A device that prints what it likes."""

    kind = "local"

    def __init__(self, code: str) -> None:
        super().__init__("liar")
        self.code = code

    def start(self, argv: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-S", "-c", self.code, argv[-1]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def explain(self, code: int, stderr: str) -> str | None:
        return None


READY = "import sys, time; print(sys.argv[1], '{\"need\": false}', flush=True); sys.stdin.readline();"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param(
            "print('x\\n' * 500)",
            r"\(exit 0\) before the agent started; its last line was 'x'\. Check what",
            id="garbage",
        ),
        pytest.param(
            "import sys; sys.stdout.write('x' * (40 << 20))",
            "returned an invalid reply: a line longer than",
            id="huge line",
        ),
        pytest.param(READY + 'print(\'{"id": 99, "answer": 1}\')', "an answer to a different question", id="wrong id"),
        pytest.param(
            READY + 'print(\'{"id": 1, "answer": NaN}\')',
            "returned an invalid reply: a line that is not JSON",
            id="nan",
        ),
        pytest.param(
            READY + 'print(\'{"id": 1, "answer": 1}\')', "a different version of the protocol", id="no greeting"
        ),
        pytest.param(READY + 'print(\'{"id": 1, "error": "SystemExit"}\')', "an invalid error", id="error"),
        pytest.param(
            READY + 'print(\'{"id": 1, "error": {"code": "SystemExit", "text": "", "subject": null}}\')',
            "an error with an unknown code",
            id="unknown error",
        ),
        pytest.param(READY + "sys.exit('board on fire')", r"ended the agent \(exit 1: board on fire\)", id="died"),
        pytest.param("import sys; sys.exit(127)", "has no python3. Install Python 3.9", id="no python"),
        pytest.param(
            "import time; time.sleep(60)", "did not start the agent in time, and printed nothing", id="silent"
        ),
        pytest.param(READY + "time.sleep(60)", "stopped answering", id="silent later"),
    ],
)
def test_a_device_that_lies_is_one_sentence(monkeypatch: pytest.MonkeyPatch, code: str, message: str) -> None:
    monkeypatch.setattr("edgefc.devices.board.wire.ENDING_S", 0.05)
    with pytest.raises(DeviceError, match=message) as caught:
        Board(Liar(code), start_s=0.7, sweeps=False)

    assert "\n" not in str(caught.value)


def test_a_device_that_never_answers_but_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefc.devices.board.wire.ENDING_S", 0.05)
    hello = json.dumps({"id": 1, "answer": AGENTS["hello"][1]})
    code = READY + f'print({hello!r}, flush=True)\nwhile True: print(\'{{"id": 2, "beat": 1}}\', flush=True)'
    board = Board(Liar(code), sweeps=False)

    with pytest.raises(DeviceError, match="stopped answering"):
        board.call("check", within_s=0.2)


@pytest.fixture(autouse=True)
def no_process_stays() -> Any:
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
