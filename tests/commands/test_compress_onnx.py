"""edgefc compress MODEL.onnx: without torch, from a budget to a file."""

import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgefc.cli import main
from edgefc.devices.board.remote import Remote
from edgefc.devices.transports.command import CommandTransport
from edgefc.latency import clock
from tests.support import userland
from tests.support.compressing_models import deep, vectors
from tests.support.json_schema import assert_valid


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    deep(tmp_path / "m.onnx", 2, 128)
    np.savez(tmp_path / "data.npz", **vectors(40, 128))  # type: ignore[arg-type]
    names = {"--calibration": "data.npz", "-o": "small.onnx", "--json": "report.json"}
    options = [part for name, file in names.items() for part in (name, str(tmp_path / file))]
    return ["compress", str(tmp_path / "m.onnx"), *options]


def test_bytes_and_report_without_torch(command: list[str], tmp_path: Path) -> None:
    program = f"""
import sys
from edgefc.cli import main
assert main({[*command, "--budget", "bytes=0.28", "--work", str(tmp_path / "work")]!r}) == 0
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^layer0 +MatMul 128 x 128 +\S+ +65,536 +", done.stdout, re.M)
    assert re.search(r"^written +[\d,]+ +0\.2\d+ +\S+ +\S+ +within$", done.stdout, re.M)
    assert "output y: relative error" in done.stdout and "on held-out samples" in done.stdout
    assert_valid(str(tmp_path / "report.json"), "compress")
    sizes = [(tmp_path / name).stat().st_size for name in ("m.onnx", "small.onnx")]
    assert sizes[1] <= 0.28 * sizes[0]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--budget", "bytes=0.2", "--minutes", "2"], "--minutes needs a torch model"),
        (["--budget", "latency=0.5@nowhere"], "nowhere"),
        (["--budget", "latency=2ms"], "needs a device"),
    ],
)
def test_mistakes(
    command: list[str], options: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert main([*command, *options]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("edgefc compress: ") and what in error
    assert not (tmp_path / "small.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize("emulated", [False, True])
def test_latency_on_a_device(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest, emulated: bool,
) -> None:  # fmt: skip
    """This machine behind a command; and an arm64 Debian that qemu runs, whose times are those of qemu."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    if emulated and (why := userland.missing()):
        pytest.skip(f"NOT TESTED on arm64: {why}")
    home = "/tmp/edgefc-test-latency" if emulated else str(tmp_path)
    transport = CommandTransport("box", ["env", f"HOME={home}", f"XDG_CACHE_HOME={home}/agent", *_path()])
    if emulated:
        transport = userland.transport(userland.place(), home)
        inside = userland.place() / home[1:]
        inside.mkdir(exist_ok=True)
        request.addfinalizer(lambda: shutil.rmtree(inside))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(clock, "connect", lambda name: Remote(transport))
    for name in ("LAYER", "MODEL"):
        monkeypatch.setattr(clock, name, clock.Effort(0.05, 1, 1))
    assert main([*command, "--budget", "latency=60s@box"]) == 2
    assert "no smaller file is within latency=60000000us@box: every weight stays" in capsys.readouterr().err
    kept = [json.loads(path.read_text())["facts"] for path in (tmp_path / "cache" / "edgefc" / "times").iterdir()]
    assert len(kept) > 3 and all(each["emulated"] is emulated for each in kept)
    assert {each["machine"] for each in kept} == {"aarch64" if emulated else platform.machine()}

    def measured(*_: object) -> None:
        raise AssertionError("a layer was timed again")

    monkeypatch.setattr(clock.Clock, "measure", measured)
    with clock.Clock("box") as again:
        assert again.emulated is emulated
        assert len(again.times([clock.Timed(_own(each), lambda path: None) for each in kept])) == len(kept)


def _own(facts: dict[str, object]) -> dict[str, object]:
    return {name: facts[name] for name in ("layer", "rows", "to")}


def _path() -> list[str]:
    return [f"PATH={Path(sys.executable).parent}:/usr/bin:/bin"]
