"""The agent in a child process on this machine: what it answers, what it leaves behind, and how it ends."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgefc.devices.agent import lines
from edgefc.devices.agent import main as agent_main
from edgefc.devices.board.check import facts_of
from edgefc.devices.board.client import Board
from edgefc.devices.board.remote import Remote
from edgefc.devices.transports.local import LocalTransport
from edgefc.errors import DeviceError, MissingPackage, ModelError, UnknownOperator, UsageError
from edgefc.runtime import Record, Session, profile
from edgefc.runtime.inputs import Wanted
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes.contracts import ModelToRun, Plan, SteadyQuestion
from tests.support import links
from tests.support import onnx_models as models
from tests.support.sshd import children

ZEROS = "0" * 64
QUICK: dict[str, Any] = {"min_time_s": 0.01, "launches": 1, "processes": 1, "memory": False}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "home/.cache/edgefc"


@pytest.fixture
def transport(tmp_path: Path, cache: Path) -> Iterator[LocalTransport]:
    """A temporary home folder. At the end it must not have files of a run."""
    (tmp_path / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    yield LocalTransport("pi", environment={**kept, "HOME": str(tmp_path / "home")})
    assert not list((cache / "runs").glob("*"))


def shape(value: Any) -> Any:
    """The keys of a record, all the way down; of lists the first."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items() if key != "missing"}
    return [shape(value[0])] if isinstance(value, (list, tuple)) and value else None


@pytest.mark.slow
def test_a_record_of_a_board_is_one_of_this_machine(transport: LocalTransport, cache: Path, tmp_path: Path) -> None:
    """And the run leaves nothing in the home but edgefc's own cache."""
    path = models.matmul(tmp_path / "m.onnx")

    there = profile(path, device=Remote(transport, profile="pi5"), **QUICK)
    here = profile(path, **QUICK)

    assert shape(there.model_dump()) == shape(here.model_dump())
    assert (there.device.name, there.device.transport, there.device.profile) == ("pi", "local", "pi5")
    assert there.models == here.models
    assert Record.model_validate_json(there.to_json()) == there
    assert [list(folder.iterdir()) for folder in (tmp_path / "home", cache.parent)] == [[cache.parent], [cache]]
    assert sorted(path.name for path in cache.iterdir()) == ["agent", "busy.lock", "files", "runs"]


def test_shapes_and_ranges_reach_a_board(transport: LocalTransport, tmp_path: Path) -> None:
    """The table has two rows, so a third index fails there, before anything is measured."""
    path = models.embedding(tmp_path / "m.onnx", words="words")
    shapes, ranges = {"ids": (None, 3)}, {"ids": (1, 1)}

    record = profile(path, device=Remote(transport), batch=2, shapes=shapes, ranges=ranges, **QUICK)

    assert (record.config.shapes, record.config.ranges) == (shapes, ranges)
    assert [str(fed) for fed in record.cells[0].inputs or ()] == ["ids int64[2, 3]"]
    with pytest.raises(ModelError, match=rf"^pi: cannot run {path}: .* The inputs were random\. Choose .* --range"):
        profile(path, device=Remote(transport), ranges={"ids": (2, 2)}, **QUICK)


def test_errors_there_name_files_here(transport: LocalTransport, tmp_path: Path) -> None:
    good = models.matmul(tmp_path / "good.onnx")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(good.read_bytes().replace(b"MatMul", b"MatNul"))

    remote = Remote(transport)
    try:
        with pytest.raises(ModelError, match=rf"^pi: cannot load {bad}: .*MatNul"):
            remote.run([bad])
        with pytest.raises(UsageError, match=r"^pi: the model has no input 'z'"):
            remote.run([good], {"z": np.ones(3)})
        with pytest.raises(UnknownOperator, match=r"^pi: cannot load .*mine:Nope") as caught:
            remote.run([models.unknown_operator(tmp_path / "unknown.onnx")])
        assert (caught.value.code, caught.value.device) == ("unknown-operator", "pi")
    finally:
        remote.close()


def test_weights_with_an_odd_name_are_found_there(transport: LocalTransport, tmp_path: Path) -> None:
    """onnxruntime opens sub/../w only where there is a folder sub."""
    path = links.down_and_up(tmp_path)

    remote = Remote(transport)
    try:
        ((found, _),) = remote.run(
            [path], {"x": np.eye(1, links.SIZE, dtype=np.float32)}, options=SessionOptions(native="off")
        )
        assert found["y"][0, 0] == 1
        with pytest.raises(DeviceError, match=r"'\.\./d/w' is not inside the model's folder\. Put the weights"):
            remote.run([links.up_and_back(tmp_path / "other")])
    finally:
        remote.close()


def test_outputs_there_are_those_here(transport: LocalTransport, cache: Path, tmp_path: Path) -> None:
    """The model stays in the cache, the inputs do not."""
    path = models.two_in_two_out(tmp_path / "m.onnx")
    feeds = {"a": np.eye(3, dtype="f"), "b": np.ones((3, 3), "f"), "c": np.array([True, False, True])}
    remote = Remote(transport)
    try:
        ((found, native),) = remote.run([path], feeds)
    finally:
        remote.close()

    assert native is None
    assert [file.read_bytes() for file in (cache / "files").iterdir()] == [path.read_bytes()]
    expected = Session(path).run(feeds)
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_weights_beside_a_model_go_with_it(transport: LocalTransport, tmp_path: Path) -> None:
    path = models.matmul(tmp_path / "m.onnx", 64, 64)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    remote = Remote(transport)
    try:
        assert remote.run([path], batch=1)[0][0]["y"].shape == (1, 64)
    finally:
        remote.close()


def test_a_file_is_sent_once_and_gone_on_with(transport: LocalTransport, cache: Path, tmp_path: Path) -> None:
    data = os.urandom(2_500_000)
    sha256 = hashlib.sha256(data).hexdigest()
    (tmp_path / "file").write_bytes(data)
    (cache / "files").mkdir(parents=True)
    (cache / f"files/{sha256}.part").write_bytes(data[:1_500_000])
    told: list[tuple[int, int]] = []

    with Board(transport) as board:
        assert board.send(tmp_path / "file", lambda *counts: told.append(counts)) == sha256
        assert [there for there, _ in told] == [2_500_000]
        told.clear()
        board.send(tmp_path / "file", lambda *counts: told.append(counts))

    assert not told
    assert (cache / f"files/{sha256}").read_bytes() == data


def test_bytes_that_changed_on_the_way_or_the_disk(transport: LocalTransport, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a" * 3000)
    sha256 = hashlib.sha256(b"a" * 3000).hexdigest()
    (cache / "files").mkdir(parents=True)
    (cache / f"files/{sha256}.part").write_bytes(b"b" * 1000)

    with Board(transport) as board:
        with pytest.raises(DeviceError, match="pi: a received file differs from the one that was sent"):
            board.send(tmp_path / "file")
        board.send(tmp_path / "file")
        (cache / f"files/{sha256}").write_bytes(b"c" * 3000)
        board.send(tmp_path / "file")

    assert (cache / f"files/{sha256}").read_bytes() == b"a" * 3000


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"do": "place", "files": [{"name": "../x", "sha256": ZEROS}], "keep": True}, "not inside the model's folder"),
        ({"do": "place", "files": [{"name": "/x", "sha256": ZEROS}], "keep": True}, "is not inside the model's folder"),
        ({"do": "have", "sha256": "../../x", "size": 1}, "is not a sha256"),
        ({"do": "have", "sha256": ZEROS, "size": 1 << 60}, "the disk is full: 1152921504606846976 bytes"),
        ({"do": "ask", "probe": "all"}, "has no probe 'all'"),
        ({"do": "__init__"}, "has no request '__init__'"),
        ({"do": "hello", "protocol": 2}, "needs protocol 1"),
    ],
    ids=range(7),
)  # fmt: skip
def test_what_the_agent_refuses(shared: Board, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        shared.call(**request_)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    home = tmp_path_factory.mktemp("home")
    with Board(LocalTransport("pi", environment={**os.environ, "HOME": str(home), "XDG_CACHE_HOME": ""})) as board:
        yield board


def test_what_a_board_has(shared: Board) -> None:
    facts = facts_of(shared)

    assert facts.onnxruntime and facts.numpy and facts.onnxruntime_missing is None
    assert facts.disk_free_bytes > 0 and abs(facts.clock_s - time.time()) < 60


def test_a_board_without_onnxruntime(tmp_path: Path) -> None:
    """In an empty venv the agent answers, and reports what is missing."""
    fake = tmp_path / "venv/bin"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(fake.parent)], check=True)
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    transport = LocalTransport("pi", python=str(fake / "python3"), environment=environment)

    with pytest.raises(DeviceError, match=r"^pi has no (numpy|onnxruntime) .*: edgefc devices provision pi$") as caught:
        Remote(transport)
    assert isinstance(caught.value, MissingPackage) and caught.value.subject in ("numpy", "onnxruntime")
    with Board(transport) as board:
        assert (facts_of(board).onnxruntime_missing or "").startswith("ModuleNotFoundError")


def test_two_who_measure_at_once(transport: LocalTransport) -> None:
    first = Remote(transport)
    try:
        with pytest.raises(DeviceError, match="pi: another edgefc is measuring on this device"):
            Remote(transport)
    finally:
        first.close()
    Remote(transport).close()


def test_what_a_killed_run_left_is_swept(transport: LocalTransport, cache: Path) -> None:
    board = Board(transport, sweeps=False)
    agent = board._wire._process
    assert len(list((cache / "runs").iterdir())) == 2
    agent.kill()

    with pytest.raises(DeviceError, match=r"^pi ended the agent \(SIGKILL\)\. Run again\.$"):
        board.call("check")
    assert list((cache / "runs").iterdir())
    with Board(transport) as again:
        assert again.hello.swept == 1


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        signal.SIGKILL,
        *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGHUP, signal.SIGINT)),
    ],
)
def test_a_probe_ends_with_the_agent(transport: LocalTransport, tmp_path: Path, number: int) -> None:
    remote = Remote(transport)
    agent = remote.board._wire._process
    path = remote.place(str(models.matmul(tmp_path / "m.onnx", 256, 256)))
    remote.board._wire.send(
        {
            "protocol": 1, "id": 99, "do": "ask", "probe": "steady", "about": "m", "limit_s": 60,
            "question": SteadyQuestion(
                (ModelToRun(path, SessionOptions()),), Wanted(batch=1), Plan(time_ns=60 * 10**9, rounds=1, samples=9)
            ),
        }, b"", 5.0,
    )  # fmt: skip
    while not (probes := children(agent.pid)):
        time.sleep(0.01)
    os.kill(agent.pid, number)

    with pytest.raises(DeviceError):
        remote.board.call("check")
    until = time.monotonic() + 10
    while any(Path(f"/proc/{probe}").exists() for probe in probes) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(Path(f"/proc/{probe}").exists() for probe in probes)


def test_the_agent_ends_when_nobody_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cable that is pulled closes nothing."""
    monkeypatch.setattr(agent_main, "SILENCE_S", 0.05)
    read, write = os.pipe()
    with pytest.raises(lines.Silent):
        agent_main.Agent(None, lines.Lines(read), write).serve()
    os.close(read)
    os.close(write)


def test_silence_is_an_end() -> None:
    read, write = os.pipe()
    with pytest.raises(lines.Silent):
        lines.Lines(read).line(0.01)
    os.close(write)
    with pytest.raises(lines.Ended):
        lines.Lines(read).line(0.01)
    os.close(read)
