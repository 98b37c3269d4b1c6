"""An arm64 Debian behind a real sshd: what the agent, bodies and NEON kernels answer on that instruction set."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgefc.catalogue import Called, entries
from edgefc.devices import inventory
from edgefc.devices.agent.answers import Facts
from edgefc.devices.board.client import Board
from edgefc.devices.board.remote import Remote
from edgefc.devices.transports.ssh import SshTransport
from edgefc.export import export
from edgefc.export.verifying.int8 import without_int8
from edgefc.runtime import Session, profile
from edgefc.runtime.inputs import Wanted, feeds_for
from edgefc.runtime.native import build
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes.plain import read
from edgefc.runtime.profiling.table import show
from tests.support import userland
from tests.support.sshd import Sshd, clean

pytestmark = pytest.mark.slow

WIDTH = 48
START_S = 300.0  # this machine imitates another, and may have other work
NMSE = 1e-10  # two float32 computations that add in another order
ROUNDED = 1e-3  # inputs rounded to int8


@pytest.fixture(scope="module")
def root() -> Path:
    if why := userland.missing():
        pytest.skip(f"NOT TESTED on arm64: {why}")
    return userland.place()


@pytest.fixture(scope="module")
def board(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """The board "arm" behind an sshd whose sessions live in the arm64 folder."""
    folder = tmp_path_factory.mktemp("arm")
    with pytest.MonkeyPatch.context() as patch, Sshd(folder / "ssh", "arm", root) as sshd:
        patch.setenv("EDGEFC_SSH_CONFIG", str(sshd.config))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        inventory.add("arm", inventory.Device(transport="ssh", address="arm", profile="emulated-arm64"))
        yield sshd
        assert clean(sshd)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every layer of the catalogue, exported."""
    folder = tmp_path_factory.mktemp("layers")
    found = []
    for entry in entries():
        torch.manual_seed(0)
        layer = entry.make(WIDTH).eval()
        found.append(folder / f"{entry.name}.onnx")
        export(Called(entry, layer), entry.example(WIDTH), found[-1], verify=False)
    return found


def here(path: Path) -> tuple[dict[str, NDArray[Any]], float]:
    """What the bodies give here, and the largest nmse against it. Kernels for int8 round the inputs each in its way."""
    with without_int8(path) as exact:
        session = Session(exact, native="off")
        return session.run(feeds_for(session.inputs, Wanted(2))[0]), NMSE if exact == path else ROUNDED


def nmse(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    wanted = expected.astype(np.float64)
    return float(np.sum((actual - wanted) ** 2) / np.sum(wanted**2))


def test_bodies_answer_as_here(board: Sshd, files: list[Path]) -> None:
    remote = Remote(SshTransport("arm", "arm"))
    try:
        there = remote.run(files, batch=2, options=SessionOptions(native="off"))
    finally:
        remote.close()

    assert len(there) == len(files) >= 15
    for path, (outputs, native) in zip(files, there, strict=True):
        assert native is None
        expected, bound = here(path)
        for name, value in expected.items():
            assert nmse(outputs[name], value) < bound, path.name


def test_neon_kernels_answer_as_bodies_here(board: Sshd, files: list[Path], tmp_path: Path) -> None:
    """The library is cross-compiled, pushed, and loaded by the run that comes after."""
    try:
        library = build.build(tmp_path / "libedgefc.so", target="aarch64")
    except build.NoLibrary as error:
        pytest.skip(f"NOT TESTED: NEON kernels on arm64: {error}")
    with Board(SshTransport("arm", "arm")) as connection:
        connection.install("native", {"libedgefc.so": library})
    try:
        remote = Remote(SshTransport("arm", "arm"))
        try:
            there = remote.run(files, batch=2)
        finally:
            remote.close()
    finally:
        (board.cache / "lib/libedgefc.so").unlink()

    assert {native for _, native in there} == {"neon"}
    for path, (outputs, _) in zip(files, there, strict=True):
        expected, bound = here(path)
        for name, value in expected.items():
            assert nmse(outputs[name], value) < bound, path.name


def test_a_record_says_emulated_and_so_does_its_table(
    board: Sshd, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    record = profile(files[0], device="arm", min_time_s=0.01, launches=1, processes=1, memory=False)
    local = profile(files[0], min_time_s=0.01, launches=1, processes=1, memory=False)
    show(local, record)

    assert record.environment.machine == "aarch64" and record.environment.emulated
    assert (record.device.transport, record.device.emulated) == ("ssh", True)
    assert record.device.profile == "emulated-arm64"
    assert any("emulated" in warning for warning in record.cells[0].warnings)
    out = capsys.readouterr().out
    assert "arm (emulated)" in out
    assert "emulated: another processor emulates this one, so the times are not those of a real one" in out


def test_the_folder_without_ssh(root: Path) -> None:
    """The command transport: the same agent, in the folder itself."""
    home = root / "tmp/edgefc-test-direct"
    home.mkdir(exist_ok=True)
    transport = userland.transport(root, "/tmp/edgefc-test-direct")
    try:
        with Board(transport, start_s=START_S) as connection:
            facts = read(Facts, connection.call("check", silence_s=START_S))
    finally:
        shutil.rmtree(home)

    assert (facts.machine, facts.native) == ("aarch64", False)
    assert facts.onnxruntime
