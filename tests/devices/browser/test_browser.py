"""The browser as a device, in a real one: headless Chromium with the pinned onnxruntime-web.

Without a browser, or without a way to the npm registry, these are skipped with NO BROWSER TESTED as the reason; a
browser that is there and fails is a failure.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgefc.catalogue import Called, Entry, entries
from edgefc.devices.browser.check import check
from edgefc.devices.browser.runner import Browser, headless
from edgefc.export import export
from edgefc.export.verifying.int8 import without_int8
from edgefc.export.verifying.measures import nmse
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.session import Session
from edgefc.testing import assert_close
from tests.support import onnx_models, stored_models
from tests.support.web_pages import needs_browser

WIDTH = 48
SAME = 1e-12  # nmse of two float32 runtimes


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    needs_browser()
    made = headless("web")
    yield made
    made.close()


def left_behind() -> list[str]:
    """Processes whose command line names a folder of ours, and those folders."""
    folders = [str(path) for path in Path(os.environ.get("TMPDIR", "/tmp")).glob("edgefc-browser-*")]
    lines = subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()
    return folders + [line for line in lines if "edgefc-browser-" in line]


def test_a_model_runs_in_a_browser(tmp_path: Path) -> None:
    """The everyday one: start, two questions, end; nothing stays."""
    needs_browser()
    before = left_behind()
    model = str(onnx_models.matmul(tmp_path / "m.onnx", 37, 13))
    x = np.random.default_rng(0).standard_normal((3, 37)).astype(np.float32)
    made = headless("web")
    try:
        found = [made.run(model, {"x": x}, options=SessionOptions(threads=threads))["y"] for threads in (1, 2)]
    finally:
        made.close()
    weight = (np.arange(37)[:, None] + np.arange(13) / 10).astype(np.float32)
    for y in found:
        assert y.dtype == np.float32
        assert nmse(y, x.astype(np.float64) @ weight) < SAME
    assert set(left_behind()) <= set(before)


@pytest.mark.slow
def test_the_check_of_a_real_browser() -> None:
    needs_browser()
    before = left_behind()

    found = check("web")

    assert found.complete
    assert [line.what for line in found.lines] == ["browser", "onnxruntime-web", "page", "threads", "clock"]
    assert all(line.state == "ok" for line in found.lines)
    assert set(left_behind()) <= set(before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*MatMulNBits nodes")
def test_stored_weights_of_every_kind(browser: Browser, tmp_path: Path) -> None:
    """One page runs all files. onnxruntime-web has every operator; its MatMulNBits does not round the inputs."""
    files = list(stored_models.files(tmp_path))
    given = [(str(path), {Session(path, native="off").inputs[0].name: x}) for _, path, x, _ in files]
    for (case, _, _, y), answer in zip(files, browser.run_all(given), strict=True):
        (found,) = answer.values()
        assert_close(found, y, nmse=case.bound, what=case.name)


Answers = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def answered(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Answers]]:
    """By the name of each layer: the outputs of its file on the host, and in the browser with 1 and 2 threads."""
    models, found = [], {}
    for entry in entries():
        torch.manual_seed(0)
        layer = entry.make(WIDTH)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        x, file = entry.example(WIDTH), tmp_path_factory.mktemp("layer") / "m.onnx"
        export(Called(entry, layer.eval()), x, file, verify=False)
        with without_int8(file) as exact:  # onnxruntime-web does not round the inputs of MatMulNBits
            host = Session(exact, native="off")
        models.append((str(file), {host.inputs[0].name: x.numpy()}))
        found[entry.name] = [host.run(models[-1][1])]
    for threads in (1, 2):
        for name, answer in zip(found, browser.run_all(models, options=SessionOptions(threads=threads)), strict=True):
            found[name].append(answer)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*MatMulNBits nodes")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.name) for entry in entries()])
def test_every_layer_gives_the_hosts_answers(answered: dict[str, list[Answers]], entry: Entry, threads: int) -> None:
    """The portable body of each layer of the catalogue, single-threaded and threaded."""
    expected, found = answered[entry.name][0], answered[entry.name][threads]
    assert set(found) == set(expected)
    for name, y in expected.items():
        assert (found[name].shape, found[name].dtype) == (y.shape, y.dtype)
        assert y.any()
        assert nmse(found[name], y) < SAME, name
