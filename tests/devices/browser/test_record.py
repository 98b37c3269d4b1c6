"""Records from a real browser, headless and by hand, and the messages for a browser that fails."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgefc.cli import main
from edgefc.devices.browser.chromium import Chromium
from edgefc.devices.browser.runner import Browser, headless
from edgefc.errors import DeviceError, ModelError
from edgefc.export.verifying.measures import nmse
from edgefc.runtime.inputs import Wanted
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes.contracts import MemoryQuestion, ModelToRun, Plan, SteadyQuestion, TrialQuestion
from edgefc.runtime.profiling.record import Record
from tests.support import onnx_models
from tests.support.json_schema import assert_valid
from tests.support.web_pages import needs_browser

pytestmark = pytest.mark.slow
FLOAT = onnx_models.FLOAT


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    needs_browser()
    made = headless("web")
    yield made
    made.close()


def test_profile_in_a_headless_browser(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command, one table with this machine's row beside it."""
    needs_browser()
    model = str(onnx_models.matmul(tmp_path / "m.onnx", 512, 512))
    record = str(tmp_path / "record.json")
    assert main(["profile", model, "--device", "web", "--threads", "1,2", "--time", "0.3", "--json", record]) == 0
    found, message = Record.read(record), capsys.readouterr().out
    assert [cell.threads for cell in found.cells] == [1, 2]
    assert found.device.download_bytes is not None and 10e6 < found.device.download_bytes < 20e6
    assert found.environment.onnxruntime in message and found.device.notes[0] in message
    for cell in found.cells:
        assert cell.steady.cpu_ns_per_run is None and cell.memory is None
        assert cell.heap is not None and cell.heap.loaded.heap_bytes is not None
        assert cell.heap.imported.heap_bytes is not None and cell.heap.imported.heap_bytes >= 16 << 20
        assert cell.steady.timer_step_ns <= 5_000 and 1_000 < cell.steady.median_ns < 1e9
    assert found.cells[0].heap is not None and (found.cells[0].heap.ran.page_bytes or 0) > 16 << 20


def test_the_heap_grows_with_the_model(browser: Browser, tmp_path: Path) -> None:
    """64 MiB of weights do not fit into the 16 MiB that it starts with."""
    model = ModelToRun(str(onnx_models.matmul(tmp_path / "m.onnx", 4096, 4096)), SessionOptions())
    heap = browser.ask(MemoryQuestion(model, Wanted(1)), about="m").heap
    assert heap is not None
    assert heap.imported.heap_bytes == 16 << 20
    assert (heap.loaded.heap_bytes or 0) > 64 << 20


def test_weights_beside_the_model(browser: Browser, tmp_path: Path) -> None:
    file = onnx_models.matmul(tmp_path / "m.onnx", 300, 40)
    model = onnx.load(file)
    onnx.save_model(
        model, file, save_as_external_data=True, location="m.onnx.data", size_threshold=0, convert_attribute=False
    )
    assert (tmp_path / "m.onnx.data").stat().st_size >= 48000
    x = np.random.default_rng(0).standard_normal((2, 300)).astype(np.float32)
    weight = (np.arange(300)[:, None] + np.arange(40) / 10).astype(np.float32)
    assert nmse(browser.run(str(file), {"x": x})["y"], x.astype(np.float64) @ weight) < 1e-12
    (tmp_path / "m.onnx.data").unlink()
    other = Path(file).rename(tmp_path / "other.onnx")
    with pytest.raises(ModelError, match=r"other\.onnx: its weights file 'm\.onnx\.data' does not exist"):
        browser.run(str(other), {"x": x})


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "int64", "uint8", "bool"])
def test_arrays_of_every_type(browser: Browser, tmp_path: Path, dtype: str) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node("Identity", ["x"], ["y"])
    ports: Any = ({"x": (kind, ["n", 3])}, {"y": (kind, ["n", 3])})
    model = onnx_models.write(tmp_path / "m.onnx", [node], *ports, {})
    x = (np.arange(12).reshape(4, 3) - (5 if dtype[0] != "u" else 0)).astype(dtype)
    y = browser.run(str(model), {"x": x})["y"]
    assert y.dtype == x.dtype and np.array_equal(y, x)


def refused(path: Path, op: str, kind: int = FLOAT, **attributes: Any) -> str:
    node = helper.make_node(op, ["x"], ["y"], **attributes)
    ports: Any = ({"x": (kind, ["n", 3])}, {"y": (kind, ["n", 3])})
    domains = {"": 20, **({attributes["domain"]: 1} if "domain" in attributes else {})}
    return str(onnx_models.write(path, [node], *ports, {}, opsets=domains))


def test_operators_that_the_browser_lacks(browser: Browser, tmp_path: Path) -> None:
    x = np.zeros((1, 3))
    with pytest.raises(DeviceError, match=r"m\.onnx in the browser: onnxruntime-web 1\S+ has no .*mine:Nope"):
        browser.run(refused(tmp_path / "m.onnx", "Nope", domain="mine"), {"x": x.astype(np.float32)})
    with pytest.raises(DeviceError, match=r"d\.onnx in the browser: .* has no kernel for its operator (Gelu|Erf)"):
        browser.run(refused(tmp_path / "d.onnx", "Gelu", onnx.TensorProto.DOUBLE), {"x": x})
    (tmp_path / "cut.onnx").write_bytes(Path(tmp_path / "m.onnx").read_bytes()[:40])
    with pytest.raises(ModelError, match=r"cannot load .*cut\.onnx: it is not an ONNX file"):
        browser.run(str(tmp_path / "cut.onnx"), {"x": x})


def test_more_memory_than_wasm_has(browser: Browser, tmp_path: Path) -> None:
    """And the same page goes on answering."""
    rows = 1 << 11
    node = helper.make_node("Expand", ["x", "shape"], ["y"])
    ports: Any = ({"x": (FLOAT, [1])}, {"y": (FLOAT, [1 << 20, rows])})
    model = onnx_models.write(tmp_path / "m.onnx", [node], *ports, {"shape": np.array([1 << 20, rows])})
    x = np.ones(1, np.float32)
    with pytest.raises(DeviceError, match=r"m\.onnx in the browser: the browser is out of memory"):
        browser.run(str(model), {"x": x})
    fine = str(onnx_models.matmul(tmp_path / "fine.onnx", 8, 4))
    assert browser.run(fine, {"x": np.ones((1, 8), np.float32)})["y"].shape == (1, 4)


def test_outputs_are_bounded(browser: Browser, tmp_path: Path) -> None:
    node = helper.make_node("Expand", ["x", "shape"], ["y"])
    ports: Any = ({"x": (FLOAT, [1])}, {"y": (FLOAT, [1 << 20, 30])})
    model = onnx_models.write(tmp_path / "m.onnx", [node], *ports, {"shape": np.array([1 << 20, 30])})
    with pytest.raises(DeviceError, match=r"cannot run \S+m\.onnx in the browser: its outputs have 125829120 bytes"):
        browser.run(str(model), {"x": np.ones(1, np.float32)})


def descendants(pid: int, word: str) -> list[int]:
    """Processes below `pid` whose command line has `word`."""
    lines = subprocess.run(["ps", "-wweo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in lines.splitlines()[1:]]
    below, found = {pid}, []
    for _ in range(6):
        below |= {int(row[0]) for row in rows if int(row[1]) in below}
    for row in rows:
        if int(row[0]) in below and word in row[2]:
            found.append(int(row[0]))
    return found


@pytest.mark.parametrize(
    ("word", "message"),
    [("--type=renderer", "the page sent nothing for 5 s"), ("--headless", "was killed by SIGKILL")],
    ids=["tab", "browser"],
)
def test_a_browser_that_is_killed(tmp_path: Path, word: str, message: str) -> None:
    """In the middle of a question: one sentence, soon, and nothing stays."""
    needs_browser()
    model = str(onnx_models.matmul(tmp_path / "m.onnx", 64, 64))
    made = headless("web")
    made.opened.link.silent_s = 5.0
    assert made.opened._chromium is not None
    keeper = made.opened._chromium._keeper.pid
    models, wanted = (ModelToRun(model, SessionOptions()),), Wanted(1)
    made.ask(TrialQuestion(models, wanted, (1,)), about="m")
    victims = [pid for pid in descendants(keeper, word) if pid != keeper]
    assert victims
    killer = threading.Timer(2.0, lambda: [os.kill(pid, signal.SIGKILL) for pid in victims if alive(pid)])
    killer.start()
    start = time.monotonic()
    try:
        with pytest.raises(DeviceError, match=f"m was not finished: .*{message}"):
            made.ask(SteadyQuestion(models, wanted, Plan(time_ns=60 * 10**9, rounds=1, samples=9)), about="m")
    finally:
        made.close()
    assert time.monotonic() - start < 50
    assert not descendants(keeper, "")
    killer.join()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_by_hand(tmp_path: Path) -> None:
    """`edgefc devices serve`: the person is another Chromium, which opens the address that is printed."""
    needs_browser()
    model, record = str(onnx_models.matmul(tmp_path / "m.onnx", 64, 64)), tmp_path / "record.json"
    command = [sys.executable, "-m", "edgefc", "devices", "serve", model, "--time", "0.1", "--json", str(record)]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert serving.stderr is not None and serving.stdout is not None
    lines = iter(serving.stderr.readline, "")
    url = next(line.strip() for line in lines if line.strip().startswith("http://127.0.0.1:"))
    person = Chromium(url)
    try:
        out, _ = serving.communicate(timeout=300)
    finally:
        person.close()
        serving.kill()
    assert serving.returncode == 0
    assert "m.onnx" in out and "adb reverse" not in out
    assert_valid(record, "devices serve")
    assert Record.read(record).device.transport == "browser"
