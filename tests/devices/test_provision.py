"""edgefc devices provision: it installs packages and kernels that are missing, once, and reports what it cannot do."""

import secrets
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from edgefc.cli import main
from edgefc.devices import inventory
from edgefc.devices.agent.answers import Facts
from edgefc.devices.board import provision as provisioning
from edgefc.devices.board.check import check, facts_of
from edgefc.devices.board.client import Board
from edgefc.devices.board.provision import Provisioned, fetch, provision
from edgefc.devices.transports.base import Transport
from edgefc.errors import DeviceError, UsageError
from edgefc.runtime.probes.plain import read
from tests.devices.test_check import GOOD
from tests.support import userland
from tests.support.boards import bare, wheel
from tests.support.sshd import Sshd, clean

HERE = {name: metadata.version(name) for name in ("numpy", "onnxruntime")}


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    for name, version in HERE.items():
        wheel(tmp_path / "wheels", name, version)
    return tmp_path / "wheels"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine's library is a file that does not load."""
    path = tmp_path / "libedgefc.so"
    path.write_bytes(b"\x7fELF of something else")
    monkeypatch.setenv("EDGEFC_LIBRARY", str(path))
    return path


def facts(board: Transport) -> Facts:
    with Board(board) as found:
        return facts_of(found)


@pytest.mark.slow
def test_packages_come_and_stay(tmp_path: Path, wheels: Path, library: Path) -> None:
    board, steps = bare(tmp_path), list[str]()

    first = provision(board, wheels=wheels, say=steps.append)

    assert first.done == (f"packages: numpy-{HERE['numpy']}, onnxruntime-{HERE['onnxruntime']}",
                          f"native library for {facts(board).machine}")  # fmt: skip
    assert first.lacking == ("native kernels: the library was installed but does not load, so portable bodies run.",)
    assert (facts(board).numpy, facts(board).onnxruntime) == (HERE["numpy"], HERE["onnxruntime"])
    assert sorted(each.name for each in (tmp_path / "home/.cache/edgefc/lib").iterdir()) == ["libedgefc.so", "site"]
    assert not list((tmp_path / "home/.cache/edgefc/runs").iterdir())

    steps.clear()
    second = provision(board, wheels=tmp_path / "gone", say=steps.append)

    assert steps[0] == f"numpy {HERE['numpy']} and onnxruntime {HERE['onnxruntime']} are already installed."
    assert not any("wheels" in each for each in steps) and not any("packages" in each for each in second.done)


@pytest.mark.slow
def test_wheels_that_do_not_import(tmp_path: Path, wheels: Path, library: Path) -> None:
    wheel(wheels, "onnxruntime", HERE["onnxruntime"], "raise ImportError('GLIBC_2.38 not found')\n")

    with pytest.raises(DeviceError) as caught:
        provision(bare(tmp_path), wheels=wheels, say=lambda _: None)

    assert str(caught.value) == (
        "onnxruntime was installed on bare but cannot be imported: ImportError: GLIBC_2.38 not found. "
        "Please report this."
    )


@pytest.mark.slow
def test_other_versions_where_there_are_none_of_these(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "numpy", "1.24.1")
    wheel(tmp_path / "wheels", "onnxruntime", "1.18.0")

    fetch("pi", read(Facts, GOOD), tmp_path / "to", tmp_path / "wheels")

    assert sorted(path.name.split("-")[1] for path in (tmp_path / "to").iterdir()) == ["1.18.0", "1.24.1"]


def test_a_folder_without_wheels(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()

    with pytest.raises(DeviceError) as caught:
        fetch("pi", read(Facts, GOOD), tmp_path / "to", tmp_path / "wheels")

    assert str(caught.value).startswith(
        f"no wheels for pi (Python 3.11.2, aarch64) from the folder {tmp_path}/wheels: "
    )
    assert str(caught.value).endswith(" or give a folder of wheels: --wheels FOLDER.") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"machine": "armv7l"}, "pi runs Linux on armv7l with glibc 2.36, but the index has onnxruntime only for Linux "
         "with glibc on aarch64 and x86_64. Install onnxruntime there by hand."),
        ({"libc": None}, "pi runs Linux on aarch64 with a C library other than glibc, but the index has onnxruntime "
         "only for Linux with glibc on aarch64 and x86_64. Install onnxruntime there by hand."),
        ({"libc": "glibc 2.12"}, "pi has glibc 2.12, which is too old for every wheel. Use a newer system there."),
        ({"python": "devel"}, "pi reports the Python version 'devel'. Install Python 3.9 or later there."),
    ],
)  # fmt: skip
def test_boards_that_no_wheel_is_for(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DeviceError) as caught:
        fetch("pi", read(Facts, {**GOOD, **changed}), tmp_path, tmp_path)

    assert str(caught.value) == sentence


def test_pip_is_asked_for_that_board_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(provisioning, "_pip", lambda words: asked.append(list(words)) or "")

    fetch("pi", read(Facts, {**GOOD, "libc": "glibc 2.19", "python": "3.9.2"}), tmp_path, None)

    (words,) = asked
    assert [each for each in words if each.startswith("--platform")] == [
        "--platform=manylinux_2_19_aarch64", "--platform=manylinux_2_18_aarch64", "--platform=manylinux_2_17_aarch64",
        "--platform=manylinux2014_aarch64",
    ]  # fmt: skip
    assert {"--only-binary=:all:", "--python-version=3.9", "--implementation=cp", "--no-deps"} <= set(words)
    assert "--no-index" not in words and words[-1] == f"onnxruntime=={HERE['onnxruntime']}"


def test_the_command(
    tmp_path: Path, wheels: Path, library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    inventory.add("bare", inventory.Device(transport="ssh", address="bare"))
    board = bare(tmp_path)
    monkeypatch.setattr("edgefc.devices.connect.transport", lambda name: board)

    assert main(["devices", "provision", "bare", "--wheels", str(tmp_path / "no")]) == 2
    assert main(["devices", "provision", "bare", "--wheels", str(wheels)]) == 0

    seen = capsys.readouterr()
    assert seen.err == (
        f"edgefc devices: {tmp_path}/no is not a folder. Name a folder with wheels of numpy and onnxruntime.\n"
    )
    assert "sending 2 wheels" in seen.out and "installed: packages: numpy-" in seen.out
    assert seen.out.endswith("bare is ready: edgefc profile MODEL --device bare\n")


@pytest.mark.slow
def test_a_board_behind_sshd(
    tmp_path: Path, wheels: Path, library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """check reports what is missing, provision installs it, check succeeds. No files of a run remain."""
    python = Path(bare(tmp_path / "there").python).parent
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with Sshd(tmp_path / "ssh", "kitchen", PATH=f"{python}:/usr/bin:/bin") as board:
        monkeypatch.setenv("EDGEFC_SSH_CONFIG", str(board.config))
        assert main(["devices", "add", "kitchen", "--ssh", "kitchen"]) == 0

        assert main(["devices", "check", "kitchen"]) == 1
        assert "edgefc devices provision kitchen" in capsys.readouterr().out
        assert main(["devices", "provision", "kitchen", "--wheels", str(wheels)]) == 0
        assert main(["devices", "check", "kitchen"]) == 0
        assert main(["devices", "provision", "kitchen", "--wheels", str(wheels)]) == 0

        assert "sending 2 wheels" in capsys.readouterr().out.partition("is ready")[0]
        assert sorted(each.name for each in board.cache.iterdir() if each.is_dir()) == ["agent", "files", "lib", "runs"]
        assert clean(board)


@pytest.mark.slow
def test_an_arm64_system_without_packages() -> None:
    """Real wheels of another processor, from the index, with the hashes that it states."""
    if why := userland.missing():
        pytest.skip(f"NOT TESTED on arm64: {why}")
    there = f"/tmp/edgefc-test-{secrets.token_hex(8)}"  # in the arm64 folder; a killed run leaves its own behind

    def run(*words: str) -> None:
        subprocess.run(userland.command(userland.place(), words), check=True)

    board = userland.transport(userland.place(), there)
    board.python = f"{there}/python/bin/python3"
    try:
        run("python3", "-m", "venv", "--without-pip", f"{there}/python")
        assert not check(board, "emulated-arm64").complete

        found = provision(board, say=lambda _: None)

        assert found.done[0] == f"packages: numpy-{HERE['numpy']}, onnxruntime-{HERE['onnxruntime']}"
        assert check(board, "emulated-arm64").complete
        if shutil.which("aarch64-linux-gnu-g++"):
            assert found == Provisioned((found.done[0], "native library for aarch64"), ())
            assert facts(board).native
        assert facts(board).machine == "aarch64" and facts(board).onnxruntime == HERE["onnxruntime"]
    finally:
        run("rm", "-rf", there)


def test_the_python_call_refuses_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    import edgefc.devices

    with pytest.raises(UsageError, match=r"gone is not a folder"):
        edgefc.devices.provision("kitchen", wheels=tmp_path / "gone")
