"""The browser as a device, without a browser: what a page may answer, and what it may be asked."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefc.devices.browser import answers, feeds, onnxruntime_web, options, refusals, runner
from edgefc.devices.browser.opened import Opened
from edgefc.devices.browser.runner import Browser
from edgefc.errors import DeviceError, ModelError, UsageError
from edgefc.runtime.profiling.profiler import profile
from edgefc.runtime.signature import TensorInfo
from tests.support import onnx_models
from tests.support.web_pages import FACTS, PORTS, Answer, FakePage, fetch

MS = 1_000_000
HELD = {"heap_bytes": 16 << 20, "page_bytes": None}
STEADY = {
    "timed": [{
        "warm_up": {"runs": 10, "settled": True, "run_ns": 50_000.5},
        "blocks": [{"samples_ns": [50_000, 51_000], "runs": 4, "wall_ns": 210_000, "cpu_ns": None}],
        "runs_per_sample": 2, "timer_step_ns": 2500,
    }],
    "clock_step_ns": 5000, "wall_ns": 230_000,
}  # fmt: skip
ANSWERS: dict[str, Any] = {
    "ports": PORTS, "load": {"load_ns": 3 * MS, "first_ns": MS, "start_ns": 2 * MS},
    "memory": {"imported": HELD, "loaded": HELD, "ran": {"heap_bytes": 17 << 20, "page_bytes": 9}, "outputs": 1},
    "steady": STEADY, "show": None,
    "run": [{"outputs": [{"name": "y", "dtype": "float32", "shape": [1, 2], "data": "AACAPwAAAEA="}]}],
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
    assert (cell.memory, cell.memory_missing) == (None, runner.NO_PEAK)
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
    from edgefc.runtime.inputs import Wanted, feeds_for

    browser = browse(honest)
    question = {"model": {"path": str(onnx_models.matmul(tmp_path / "m.onnx", 4, 2))}, "batch": 5, "inputs": None}
    browser.ask("load", question, about="m")
    told = browser._fed(question["model"]["path"], question, 9.0)  # type: ignore[index]
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
    ("load", "load_ns", -1, "load_ns: Input should be greater"),
    ("load", "load_ns", 1.5, "load_ns: Input should be a valid integer"),
    ("load", "first_ns", "-", "first_ns: Field required"),
    ("load", "more", 1, "more: Extra inputs"),
    ("memory", "ran/heap_bytes", 1 << 20, "a wasm heap does not shrink"),
    ("memory", "ran/heap_bytes", None, "a wasm heap does not shrink"),
    ("memory", "ran/heap_bytes", 1 << 50, "ran.heap_bytes: Input should be less"),
    ("steady", "wall_ns", 10**12, "1e.03 s for timing"),
    ("steady", f"{BLOCK}/wall_ns", 10**9, "reports 1 s for all blocks"),
    ("steady", f"{BLOCK}/samples_ns", [], "samples_ns: List should have at least 1"),
    ("steady", f"{BLOCK}/samples_ns", [0], "samples_ns.0: Input should be greater"),
    ("steady", f"{BLOCK}/samples_ns", [1, 1, 1], "3 samples of 6 ns in total, in 4 runs"),
    ("steady", f"{BLOCK}/samples_ns", [200_000], "1 samples of 400000 ns in total"),
    ("steady", f"{BLOCK}/cpu_ns", 5, "cpu_ns: Input should be null"),
    ("steady", "timed/0/blocks", [], "blocks: List should have at least 1"),
    ("steady", "timed/0/blocks", STEADY["timed"][0]["blocks"] * 9, "9 rounds, at most 1 expected"),  # type: ignore[index]
    ("steady", "timed/0/warm_up/run_ns", 0.0, "run_ns: Input should be greater"),
    ("steady", "timed", [], "timed 0 models instead of 1"),
    ("run", "0/outputs/0/data", "AAAA", "3 bytes for output 'y' float32"),
    ("run", "0/outputs/0/data", "!", "output 'y' with the invalid dtype float32 or invalid data"),
    ("run", "0/outputs/0/dtype", "object", "0 bytes|8 bytes"),
    ("run", "0/outputs/0/dtype", "nonsense", "the invalid dtype nonsense"),
    ("run", "0/outputs/0/shape", [1 << 40, 1 << 40], "8 bytes for output"),
    ("run", "0", "-", "did not return outputs for each of 1 models"),
    ("run", "0/error", "no", "cannot run .*m.onnx in the browser: no"),
    ("ports", "inputs/0/shape", [1.5], "inputs.0.shape.0"),
    ("ports", "inputs/0/shape", [1 << 30, 1 << 30], "its inputs have more than"),
    ("ports", "inputs", "x", "inputs: Input should be a valid"),
]


@pytest.mark.parametrize(("verb", "path", "new", "said"), LIES, ids=[f"{lie[0]}-{n}" for n, lie in enumerate(LIES)])
def test_a_lying_page_gives_no_record(
    browse: Callable[..., Browser], tmp_path: Path, verb: str, path: str, new: Any, said: str
) -> None:
    model = str(onnx_models.matmul(tmp_path / "m.onnx", 4, 2))
    lie = {**ANSWERS, verb: changed(ANSWERS[verb], path, new)}
    browser = browse(lambda question: {"answer": lie[question["verb"]]})
    with pytest.raises(DeviceError, match=said):
        asked_about(browser, verb, model)


def asked_about(browser: Browser, verb: str, model: str) -> None:
    if verb == "run":
        browser.run(model, {"x": np.zeros((1, 4), np.float32)})
    probe = "trial" if verb == "ports" else verb
    at = {"batch": None, "batches": [None], "inputs": None, "time_ns": 9, "rounds": 1, "samples": 9}
    browser.ask(probe, {"model": {"path": model}, "models": [{"path": model}], **at}, about="m")


@pytest.mark.parametrize("change", [("cores", 0), ("brands", ["x" * 1000]), ("isolated", 1), ("more", 1)])
def test_facts_that_cannot_be(browse: Callable[..., Browser], change: tuple[str, Any]) -> None:
    with pytest.raises(DeviceError, match=f"the page returned an invalid description of itself: {change[0]}"):
        browse(honest, {**FACTS, change[0]: change[1]})


NAMES = st.sampled_from(["timed", "clock_step_ns", "wall_ns", "outputs", "imported", "loaded", "ran", "load_ns"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
)


@given(JSON)
@settings(max_examples=40, deadline=None)
def test_any_json_is_told_in_one_sentence(value: Any) -> None:
    checks: list[Callable[[], Any]] = [
        lambda: answers.load_of(value, 1), lambda: answers.heap_of(value),
        lambda: answers.steady_of(value, 1, 1, 1),
        lambda: answers.read(answers.Facts, value), lambda: answers.read(answers.Ports, value),
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
    with pytest.raises(UsageError, match=r"m\.onnx: activations in int8 need the native kernels, which a browser"):
        profile(onnx_models.matmul(tmp_path / "m.onnx"), device=browse(honest), activation_dtype="int8")


def test_weights_come_from_the_models_folder_alone(browse: Callable[..., Browser], tmp_path: Path) -> None:
    """The file names them, and may be a stranger's: it must not make the server offer any file of this machine."""
    (tmp_path / "below").mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(128))
    model = onnx_models.missing_weights(tmp_path / "below" / "m.onnx", "../secret.bin")
    with pytest.raises(ModelError, match=r"its weights file '\.\./secret\.bin' is outside the model's folder"):
        profile(model, device=browse(honest))


def test_a_model_that_is_too_large(
    browse: Callable[..., Browser], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "LARGEST_MODEL", 100)
    with pytest.raises(DeviceError, match=r"it has \d+ bytes, and the limit is 100"):
        profile(onnx_models.matmul(tmp_path / "m.onnx"), device=browse(honest))


@pytest.mark.parametrize(
    ("stage", "text", "said"),
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
def test_refusals_in_one_sentence(stage: str, text: str, said: str) -> None:
    with pytest.raises(DeviceError, match=said) as caught:
        raise refusals.refusal("m", stage, text)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_presets_in_onnxruntime_webs_words() -> None:
    battery = options.session_options("battery", 2)["extra"]["session"]
    assert battery == {"intra_op": {"allow_spinning": "0"}, "inter_op": {"allow_spinning": "0"}}
    memory = options.session_options("memory", 1)
    assert (memory["enableCpuMemArena"], memory["extra"]) == (False, {"session": {"disable_prepacking": "1"}})
    assert "extra" not in options.session_options("latency", 1)
