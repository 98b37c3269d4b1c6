"""The browser as a device, without a browser: what a page may answer, and what it may be asked."""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefc import QuantizedLinear
from edgefc.devices.browser import answers, feeds, onnxruntime_web, options, refusals
from edgefc.devices.browser.opened import Opened
from edgefc.devices.browser.runner import Browser
from edgefc.errors import DeviceError, ModelError, UsageError
from edgefc.runtime.inputs import Wanted, feeds_for
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes.contracts import (
    LoadQuestion,
    MemoryQuestion,
    ModelToRun,
    Plan,
    Question,
    SteadyQuestion,
    TrialQuestion,
)
from edgefc.runtime.profiling.profiler import profile
from edgefc.runtime.signature import TensorInfo
from edgefc.testing import layer_model
from tests.support import onnx_models
from tests.support.web_pages import FACTS, INPUTS, Answer, FakePage, fetch

MS = 1_000_000
HELD = {"heap_bytes": 16 << 20, "page_bytes": None}
STEADY = {
    "timed": [{
        "warm_up": {"runs": 10, "settled": True, "run_ns": 50_000.5},
        "blocks": [{"samples_ns": [50_000, 51_000], "runs": 4, "wall_ns": 210_000, "cpu_ns": None}],
        "runs_per_sample": 2,
    }],
    "timer_step_ns": 5000, "wall_ns": 230_000, "other_cores": None,
}  # fmt: skip
ANSWERS: dict[str, Any] = {
    "inputs": INPUTS, "load": {"load_ns": 3 * MS, "first_ns": MS, "start_ns": 2 * MS, "used_native": None},
    "memory": {
        "memory": None, "missing": "no peak",
        "heap": {"imported": HELD, "loaded": HELD, "ran": {"heap_bytes": 17 << 20, "page_bytes": 9}},
    },
    "steady": STEADY, "show": None,
    "run": {"models": [{
        "outputs": [{"name": "y", "dtype": "float32", "shape": [1, 2], "data": "AACAPwAAAEA="}], "used_native": None,
    }]},
}  # fmt: skip


def honest(question: dict[str, Any]) -> dict[str, Any]:
    time.sleep(0.01)
    if question["verb"] == "steady":
        return {"answer": {**STEADY, "timed": STEADY["timed"] * len(question["models"])}}
    return {"answer": ANSWERS[question["verb"]]}


@pytest.fixture
def browse(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Browser]]:
    """browse(answer) is a Browser whose page answers so."""
    monkeypatch.setattr(onnxruntime_web, "files", dict)
    made: list[Browser] = []

    def start(answer: Answer, facts: Any = FACTS) -> Browser:
        opened = Opened(by_hand=True, announce=lambda server: FakePage(server.url(), answer, facts).start())
        made.append(Browser(opened, "web"))
        return made[-1]

    yield start
    for each in made:
        each.close()


# What a page may answer


def test_a_record_from_a_page(browse: Callable[..., Browser], tmp_path: Path) -> None:
    """The profiler of the host makes it, from a page that answers all that it is asked."""
    model = onnx_models.matmul(tmp_path / "m.onnx", 4, 2)
    record = profile(model, device=browse(honest), batch=[1, 3], threads=[1, 2], processes=2, rounds=1, launches=2)
    cell = record.cells[0]
    assert [(c.batch, c.threads) for c in record.cells] == [(1, 1), (3, 1), (1, 2), (3, 2)]
    assert (cell.memory, cell.memory_missing) == (None, "no peak")
    assert cell.heap is not None
    assert (cell.heap.loaded.heap_bytes, cell.heap.ran.page_bytes) == (16 << 20, 9)
    assert (cell.load.samples_ns, cell.first.samples_ns) == ((3 * MS, 3 * MS), (MS, MS))
    assert (cell.steady.cpu_ns_per_run, cell.steady.runs_per_sample, cell.steady.timer_step_ns) == (None, 2, 2500)
    assert cell.steady.median_ns == 50_500
    env = record.environment
    assert (env.python, env.numpy, env.implementation, env.onnxruntime) == (None, None, "Test 1.2", "web 1.30.0")
    assert all(getattr(env, name) is None for name in env.missing)
    assert (record.device.transport, record.device.before, record.device.emulated) == ("browser", None, False)


def test_drawn_inputs_are_those_of_every_device(browse: Callable[..., Browser], tmp_path: Path) -> None:
    """The page is given the bytes; it draws nothing itself."""
    browser = browse(honest)
    model = ModelToRun(str(onnx_models.matmul(tmp_path / "m.onnx", 4, 2)), SessionOptions())
    browser.ask(LoadQuestion(model, Wanted(5)), about="m")
    told = browser._fed(model, Wanted(5), 9.0)
    status, content = fetch(f"{browser.opened.server.url()}file/{told['feeds']}")
    expected = feeds_for([TensorInfo("x", "float32", ("batch", 4))], Wanted(5))[0]["x"]
    assert (status, content) == (200, expected.tobytes())
    assert told["index"] == [{"name": "x", "dtype": "float32", "shape": [5, 4], "offset": 0, "length": 80}]


def test_outputs(browse: Callable[..., Browser], tmp_path: Path) -> None:
    found = browse(honest).run(str(onnx_models.matmul(tmp_path / "m.onnx", 4, 2)), {"x": np.zeros((1, 4), np.float32)})
    assert np.array_equal(found["y"], [[1.0, 2.0]]) and found["y"].dtype == np.float32


def changed(value: Any, path: str, new: Any) -> Any:
    """A copy of nested data with one value changed; "-" removes it."""
    copy = json.loads(json.dumps(value))
    *walk, last = [int(p) if p.isdigit() else p for p in path.split("/")]
    place = copy
    for part in walk:
        place = place[part]
    if new == "-":
        del place[last]
    else:
        place[last] = new
    return copy


BLOCK = "timed/0/blocks/0"
LIES = [
    ("load", "load_ns", 10**12, "1e.03 s for load and first run"),
    ("load", "load_ns", -1, "load_ns: -1 is below 0"),
    ("load", "load_ns", 1.5, "load_ns: 1.5 is not an integer"),
    ("load", "first_ns", "-", "first_ns: the field is missing"),
    ("load", "more", 1, "more.*: the field is unknown"),
    ("memory", "heap/ran/heap_bytes", 1 << 20, "a wasm heap does not shrink"),
    ("memory", "heap/ran/heap_bytes", None, "a wasm heap does not shrink"),
    ("memory", "heap/ran/heap_bytes", 1 << 50, "heap.ran.heap_bytes: 1125899906842624 is above"),
    ("steady", "wall_ns", 10**12, "1e.03 s for timing"),
    ("steady", f"{BLOCK}/wall_ns", 10**9, "1 s for all blocks"),
    ("steady", f"{BLOCK}/samples_ns", [], "samples_ns: it is empty"),
    ("steady", f"{BLOCK}/samples_ns", [0], "the runs took no time"),
    ("steady", f"{BLOCK}/samples_ns", [1, 1, 1], "3 samples of 6 ns in total, in 4 runs"),
    ("steady", f"{BLOCK}/samples_ns", [200_000], "1 samples of 400000 ns in total"),
    ("steady", f"{BLOCK}/cpu_ns", 5, "a CPU time of 5 ns, which a browser cannot measure"),
    ("steady", "timed/0/blocks", [], "blocks: it is empty"),
    ("steady", "timed/0/blocks", STEADY["timed"][0]["blocks"] * 9, "9 rounds; expected at most 1"),  # type: ignore[index]
    ("steady", "timed/0/warm_up/run_ns", 0.0, "the runs took no time"),
    ("steady", "timed", [], "timed 0 models instead of 1"),
    ("run", "models/0/outputs/0/data", "AAAA", "3 bytes for output 'y' float32"),
    ("run", "models/0/outputs/0/data", "!", "output 'y' with the invalid dtype float32 or invalid data"),
    ("run", "models/0/outputs/0/dtype", "object", "the invalid dtype object"),
    ("run", "models/0/outputs/0/dtype", "nonsense", "the invalid dtype nonsense"),
    ("run", "models/0/outputs/0/shape", [1 << 40, 1 << 40], "8 bytes for output"),
    ("run", "models/0", "-", "outputs of 0 models instead of 1"),
    ("memory", "missing", None, "neither memory nor a reason"),
    ("memory", "missing", "\x1b[2J", "control characters"),
    ("load", "used_native", "avx2", "native kernels were loaded although they were not requested"),
    ("steady", "timer_step_ns", 0, "the clock has no step"),
    ("inputs", "inputs/0/shape", [1.5], "inputs.0.shape.0"),
    ("inputs", "inputs/0/shape", [1 << 30, 1 << 30], "its inputs have more than"),
    ("inputs", "inputs", "x", "inputs: .x. is not a list"),
]


@pytest.mark.parametrize(("verb", "path", "new", "message"), LIES, ids=[f"{lie[0]}-{n}" for n, lie in enumerate(LIES)])
def test_a_lying_page_gives_no_record(
    browse: Callable[..., Browser], tmp_path: Path, verb: str, path: str, new: Any, message: str
) -> None:
    model = str(onnx_models.matmul(tmp_path / "m.onnx", 4, 2))
    lie = {**ANSWERS, verb: changed(ANSWERS[verb], path, new)}
    browser = browse(lambda question: {"answer": lie[question["verb"]]})
    with pytest.raises(DeviceError, match=message):
        asked_about(browser, verb, model)


def asked_about(browser: Browser, verb: str, model: str) -> None:
    if verb == "run":
        browser.run(model, {"x": np.zeros((1, 4), np.float32)})
    file = ModelToRun(model, SessionOptions())
    questions: dict[str, Question[Any]] = {
        "inputs": TrialQuestion((file,), Wanted(), (None,)), "load": LoadQuestion(file, Wanted()),
        "memory": MemoryQuestion(file, Wanted()), "steady": SteadyQuestion((file,), Wanted(), Plan(9, 1, 9)),
    }  # fmt: skip
    browser.ask(questions[verb], about="m")


def test_a_page_that_fails(browse: Callable[..., Browser], tmp_path: Path) -> None:
    """The message names the model that failed."""
    good, bad = (str(onnx_models.matmul(tmp_path / f"{name}.onnx", 4, 2)) for name in ("good", "bad"))
    x = {"x": np.zeros((1, 4), np.float32)}
    for model, message in (
        (1, "cannot run .*bad.onnx in the browser: no"),
        (9, "cannot run .*good.onnx, .*bad.onnx in"),
    ):
        browser = browse(lambda question, model=model: {"error": "no", "stage": "run", "model": model})
        with pytest.raises(DeviceError, match=message):
            browser.run_all([(good, x), (bad, x)])
        browser.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"cores": 0}, "cores: 0 is below 1"), ({"brands": ["x" * 1000]}, "a text has 1000 characters"),
     ({"isolated": 1}, "isolated: 1 is not true or false"), ({"more": 1}, '"more": the field is unknown')],
    ids=["cores", "brands", "isolated", "more"],
)  # fmt: skip
def test_facts_that_cannot_be(browse: Callable[..., Browser], change: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=f"the page returned an invalid description of itself: {message}"):
        browse(honest, {**FACTS, **change})


NAMES = st.sampled_from(["timed", "clock_step_ns", "wall_ns", "outputs", "imported", "loaded", "ran", "load_ns"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
)


@given(JSON)
@settings(max_examples=40, deadline=None)
def test_any_json_is_told_in_one_sentence(value: Any) -> None:
    page, file = answers.page_answers(), ModelToRun("m.onnx", SessionOptions())
    checks: list[Callable[[], Any]] = [
        lambda: page.answer(LoadQuestion(file, Wanted()), value, 1),
        lambda: page.answer(MemoryQuestion(file, Wanted()), value, 1),
        lambda: page.answer(SteadyQuestion((file,), Wanted(), Plan(1, 1, 1)), value, 1),
        lambda: page.read(answers.Facts, value), lambda: page.read(answers.PageInputs, value),
    ]  # fmt: skip
    for check in checks:
        with pytest.raises(DeviceError, match="the page returned an invalid"):
            check()


# What cannot be asked


def test_threads_need_an_isolated_page(browse: Callable[..., Browser], tmp_path: Path) -> None:
    model = onnx_models.matmul(tmp_path / "m.onnx", 4, 2)
    with pytest.raises(UsageError, match=r"threads is 2, and this page has only one thread: .*adb reverse"):
        profile(model, device=browse(honest, {**FACTS, "isolated": False}), threads=2)
    with pytest.raises(DeviceError, match="did not run the null model with the requested 2 threads"):
        profile(model, device=browse(lambda question: {**honest(question), "workers": 0}), threads=2)


def test_native_kernels_cannot_be_insisted_on(browse: Callable[..., Browser], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"m\.onnx: a browser cannot load native kernels"):
        profile(onnx_models.matmul(tmp_path / "m.onnx"), device=browse(honest), native="on")
    with pytest.raises(UsageError, match=r"m\.onnx: int8 activations need the native kernels, which a browser"):
        profile(onnx_models.matmul(tmp_path / "m.onnx"), device=browse(honest), activation_dtype="int8")


def test_weights_come_from_the_models_folder_alone(browse: Callable[..., Browser], tmp_path: Path) -> None:
    """The file names them, and may be a stranger's: it must not make the server offer any file of this machine."""
    (tmp_path / "below").mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(128))
    model = onnx_models.missing_weights(tmp_path / "below" / "m.onnx", "../secret.bin")
    with pytest.raises(ModelError, match=r"its weights file '\.\./secret\.bin' is outside the model's folder"):
        profile(model, device=browse(honest))


def test_a_model_for_which_the_browser_is_slow(browse: Callable[..., Browser], tmp_path: Path) -> None:
    for body, warned in (("int8", True), ("dequantized", False)):
        model = tmp_path / f"{body}.onnx"
        ir.save(layer_model(QuantizedLinear(32, 8), 32, body=body), model)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            browse(honest)._offered(str(model))
        texts = [str(each.message) for each in caught]
        assert len(texts) == warned
        assert all("--body QuantizedLinear=dequantized" in text for text in texts)


def test_a_model_that_is_too_large(
    browse: Callable[..., Browser], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "LARGEST_MODEL", 100)
    with pytest.raises(DeviceError, match=r"it has \d+ bytes, and the limit is 100"):
        profile(onnx_models.matmul(tmp_path / "m.onnx"), device=browse(honest))


@pytest.mark.parametrize(
    ("stage", "text", "message"),
    [
        ("load", "Can't create a session. ERROR_CODE: 9, ERROR_MESSAGE: Could not find an implementation for Foo(21) "
         "node with name 'n'", "cannot load m in the browser: .* no kernel for its operator Foo of opset 21"),
        ("load", "... ai.onnx.ml:Foo(-1) is not a registered function/op", "has no operator ai.onnx.ml:Foo"),
        ("load", "std::bad_alloc", "the browser is out of memory.*Give a smaller batch or a smaller model"),
        ("load", "6491488", "threw C.. exception 6491488 without a reason"),
        ("load", "Failed to load external data file w.bin, error: not found in preloaded files.",
         "its weights file does not exist"),
        ("run", "ERROR_MESSAGE: Non-zero status code returned", "cannot run m in the browser: Non-zero status"),
        ("start", "x" * 999, "cannot start onnxruntime-web for m: "),
        ("other", "", "cannot run m in the browser: onnxruntime-web gave no reason"),
    ],
)  # fmt: skip
def test_refusals_in_one_sentence(stage: str, text: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message) as caught:
        raise refusals.refusal("m", stage, text)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_presets_in_onnxruntime_webs_words() -> None:
    battery = options.session_options(SessionOptions("battery", threads=2))["extra"]["session"]
    assert battery == {"intra_op": {"allow_spinning": "0"}, "inter_op": {"allow_spinning": "0"}}
    memory = options.session_options(SessionOptions("memory"))
    assert (memory["enableCpuMemArena"], memory["extra"]) == (False, {"session": {"disable_prepacking": "1"}})
    assert "extra" not in options.session_options(SessionOptions())
