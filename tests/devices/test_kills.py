"""Kills and stops while an endless model runs: nothing stays on either side, and the next run works at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgefc.devices.agent import holder
from edgefc.devices.board.client import Board
from edgefc.devices.board.remote import Remote
from edgefc.devices.transports.base import Transport
from edgefc.devices.transports.local import LocalTransport
from edgefc.devices.transports.ssh import SshTransport
from edgefc.errors import DeviceError, ModelError
from edgefc.runtime.inputs import Wanted
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes import ends
from edgefc.runtime.probes.contracts import LoadQuestion, ModelToRun
from tests.support import onnx_models, userland
from tests.support.boards import endless, home, processes
from tests.support.sshd import Sshd, children, clean

ROOT = Path(__file__).resolve().parents[2]
SOON_S = 20.0

# A host of its own: profile of argv[1] on the device that the code before made.
HOST = """
from pathlib import Path
import sys
from edgefc.devices.board.remote import Remote
from edgefc.runtime import profile
{device}
profile(sys.argv[1], device=Remote(device), memory=False)
"""


def wait_for(true: Callable[[], Any], within_s: float = SOON_S) -> Any:
    until = time.monotonic() + within_s
    while not (found := true()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


@pytest.fixture
def local(tmp_path: Path) -> LocalTransport:
    return LocalTransport("pi", environment=home(tmp_path / "home"))


def agent_of(board: Board) -> int:
    return board._wire._process.pid


def left(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "runs").glob("*"))


@pytest.mark.slow
def test_an_endless_model_ends_at_its_limit(local: LocalTransport, tmp_path: Path) -> None:
    model, good = endless(tmp_path / "m.onnx"), onnx_models.matmul(tmp_path / "g.onnx")
    remote = Remote(local)
    try:
        there = LoadQuestion(ModelToRun(remote.place(str(model)), SessionOptions()), Wanted(batch=1))
        with pytest.raises(ModelError, match=r"m\.onnx was still running after 1\.5 s"):
            remote.ask(there, about=str(model), limit_s=1.5)
        assert not children(agent_of(remote.board))
        remote.run([good])
    finally:
        remote.close()


def test_an_agent_that_is_stopped_holds_nobody_up(local: LocalTransport, tmp_path: Path) -> None:
    """It holds the lock of the device; the next agent ends it."""
    cache, first = tmp_path / "home/.cache/edgefc", Remote(local)
    pid = agent_of(first.board)
    os.kill(pid, signal.SIGSTOP)

    Remote(local).close()

    assert first.board._wire._process.wait(SOON_S) == -signal.SIGKILL
    first.close()
    assert left(cache) == []


def test_an_agent_that_was_lost_is_ended_by_the_next(local: LocalTransport, tmp_path: Path) -> None:
    """By the name of its run, since it may believe in its connection for a while."""
    first = Remote(local)
    with Board(local) as second:
        second.call("end", run=first.board.hello.run)
        second.call("claim")
        with pytest.raises(DeviceError, match="is not the name of a run"):
            second.call("end", run="../files")
    assert first.board._wire._process.wait(SOON_S) == -signal.SIGKILL
    first.close()
    assert left(tmp_path / "home/.cache/edgefc") == []


def test_what_was_killed_for_memory_is_measured(local: LocalTransport) -> None:
    """The kernel's count before and after. Without it, the message names no cause."""
    if ends.machine_oom_kills() is None:
        pytest.skip("NOT TESTED: this kernel does not count the processes that it killed for lack of memory")
    for more, message in (
        (2, r"killed for lack of memory \(oom_kill in /proc/vmstat\) has increased by 2\."),
        (0, "SIGKILL"),
    ):
        board = Board(local)
        board._hello = replace(board.hello, killed_for_memory=(board.hello.killed_for_memory or 0) - more)
        os.kill(agent_of(board), signal.SIGKILL)
        with pytest.raises(DeviceError, match=message):
            board.call("check")


def test_a_number_that_another_process_has_now() -> None:
    """Only the process that wrote the line is ended."""
    with subprocess.Popen(["sleep", "60"]) as other:
        line = holder._line(other.pid)
        pid, start, boot = line.split()
        for wrong in (f"{pid} {int(start) - 1} {boot}", f"{pid} {start} x", pid, "", "x", f"{'9' * 30} 1 2", "-1 1 1"):
            holder.end(wrong)
            assert other.poll() is None and not holder.stopped(wrong)
        holder.end(holder.own())
        other.send_signal(signal.SIGSTOP)
        wait_for(lambda: holder.stopped(line))
        holder.end(line)
        assert other.wait(SOON_S) == -signal.SIGKILL


class Case:
    """A transport, the code that makes it in another process, and what a run of it may leave on the board."""

    def __init__(self, transport: Transport, code: str, cache: Path, mark: str, pytest_env: dict[str, str]) -> None:
        self.transport, self.code, self.cache, self.mark, self.env = transport, code, cache, mark, pytest_env

    def left(self) -> list[Any]:
        found: list[Any] = left(self.cache)
        for pid in processes(self.mark):
            with suppress(OSError):
                if b"sshd" not in (words := Path(f"/proc/{pid}/cmdline").read_bytes()):
                    found.append(words[:200])
        return found

    def probes(self) -> list[int]:
        """The processes that run an endless model by now."""
        found = []
        for pid in processes(self.mark):
            with suppress(OSError):
                if b"edgefc.runtime.probes.start\0trial" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found


@pytest.fixture(params=["local", "ssh", "command"])
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    mark = f"EDGEFC_TEST_KILLS={os.getpid()}"
    name, value = mark.split("=")
    if request.param == "local":
        environment = {**home(tmp_path / "home"), name: value}
        code = f"from edgefc.devices.transports.local import LocalTransport as T\ndevice = T(environment={environment})"
        cache = tmp_path / "home/.cache/edgefc"
        yield Case(LocalTransport(environment=environment), code, cache, mark, {name: value})
    elif request.param == "ssh":
        with Sshd(tmp_path / "ssh", "kitchen", **{name: value}) as board:
            monkeypatch.setenv("EDGEFC_SSH_CONFIG", str(board.config))
            code = "from edgefc.devices.transports.ssh import SshTransport as T\ndevice = T('kitchen', 'kitchen')"
            yield Case(SshTransport("kitchen", "kitchen"), code, board.cache, mark, {name: value})
    else:
        root = userland.folder()
        if root is None:
            pytest.skip(f"NOT TESTED on arm64: {userland.missing()}")
        (root / "tmp/edgefc-test-kills").mkdir(exist_ok=True)
        inside = "/tmp/edgefc-test-kills"
        code = f"from tests.support import userland\ndevice = userland.transport(Path({str(root)!r}), {inside!r})"
        try:
            yield Case(userland.transport(root, inside), code, root / inside[1:] / ".cache/edgefc", inside, {})
        finally:
            subprocess.run(["rm", "-rf", str(root / inside[1:])], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
def test_a_host_that_is_killed(case: Case, tmp_path: Path, number: signal.Signals) -> None:
    if case.transport.kind == "command" and number != signal.SIGKILL:
        pytest.skip("emulated: one signal, the hardest, since each takes 20 s")
    model = endless(tmp_path / "m.onnx")
    command = [sys.executable, "-c", HOST.format(device=case.code), str(model)]
    with subprocess.Popen(command, env={**os.environ, **case.env}, stderr=subprocess.DEVNULL, cwd=ROOT) as host:
        try:
            wait_for(lambda: case.probes() and left(case.cache), 120)
            time.sleep(0.5)
            host.send_signal(number)
            host.wait(SOON_S)
        finally:
            host.kill()  # otherwise Popen waits for ever
    wait_for(lambda: not case.left())
    with Board(case.transport, start_s=120) as board:
        board.call("claim")


@pytest.mark.slow
def test_an_agent_that_is_stopped_while_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Behind ssh, which does not report it: the host receives nothing, and ends the agent by a second connection."""
    monkeypatch.setattr("edgefc.devices.board.wire.ENDING_S", 0.5)
    with Sshd(tmp_path / "ssh", "kitchen") as board:
        monkeypatch.setenv("EDGEFC_SSH_CONFIG", str(board.config))
        for whom in (board.agents, board.connections):
            remote = Remote(SshTransport("kitchen", "kitchen"))
            for pid in whom():
                os.kill(pid, signal.SIGSTOP)
            with pytest.raises(DeviceError, match=r"^kitchen stopped answering \(nothing received for 1 s\)\."):
                remote.board.call("heat", silence_s=1.0)
            wait_for(lambda: not board.leftovers())
            Remote(SshTransport("kitchen", "kitchen")).close()
            for pid in board.connections():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            assert clean(board)


@pytest.mark.slow
def test_an_ssh_that_is_killed_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sshd(tmp_path / "ssh", "kitchen") as board:
        monkeypatch.setenv("EDGEFC_SSH_CONFIG", str(board.config))
        remote = Remote(SshTransport("kitchen", "kitchen"))
        os.kill(agent_of(remote.board), signal.SIGKILL)
        with pytest.raises(
            DeviceError, match=r"^kitchen: ssh on this machine was killed by SIGKILL\. Run the command again\.$"
        ):
            remote.board.call("heat")
        assert clean(board)
