"""Signals: each ends a command with its own exit code, one line, and nothing left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgefc import endings
from edgefc.cli import main
from edgefc.runtime import Record
from edgefc.runtime.probes import child
from tests.support import endless
from tests.support import onnx_models as models

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

CODES = {"SIGINT": (130, "interrupted"), "SIGTERM": (143, "terminated"), "SIGHUP": (129, "hangup")}
ROOT = Path(__file__).resolve().parents[2]

_PROGRAM = """
import ctypes, sys, time
from edgefc import endings, temporary
{settings}
def work():
    with temporary.folder("held-", sys.argv[1]) as made:
        (made / "file").write_text("half")
{body}
    return 0
sys.exit(endings.run("edgefc x", work))
"""
_READY = "print('ready', flush=True)\n"
# A mutex that is locked twice waits for ever, in C, whatever signals arrive.
_STUCK = (
    _READY + "mutex = (ctypes.c_byte * 128)()\nlock = ctypes.CDLL(None).pthread_mutex_lock\nlock(mutex)\nlock(mutex)"
)


def started(place: Path, body: str, settings: str = "", *, before: str = "") -> "subprocess.Popen[str]":
    indented = "\n".join(f"        {line}" for line in body.splitlines())
    (place / "program.py").write_text(before + _PROGRAM.format(settings=settings, body=indented))
    (place / "held").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "program", "held"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.mark.parametrize("name", CODES)
def test_a_signal_ends_the_command(tmp_path: Path, name: str) -> None:
    """Within exec() too, by which dataclasses and named tuples are made: Python then would end itself with SIGINT."""
    process = started(tmp_path, _READY + "exec('time.sleep(60)')")
    process.send_signal(getattr(signal, name))

    code, word = CODES[name]
    assert ended(process) == (code, "", f"edgefc x: {word}\n")
    assert not list((tmp_path / "held").iterdir())


def test_one_that_arrives_while_native_code_runs(tmp_path: Path) -> None:
    process = started(tmp_path, _STUCK, "endings.STEP_S = 0.2")
    process.send_signal(signal.SIGTERM)

    assert ended(process) == (143, "", "edgefc x: terminated\n")
    assert not list((tmp_path / "held").iterdir())


def test_one_that_the_command_takes_no_notice_of(tmp_path: Path) -> None:
    body = f"while True:\n    try:\n        {_READY}        time.sleep(60)\n    except KeyboardInterrupt:\n        pass"
    process = started(tmp_path, body, "endings.LONGEST_S = 0.3")
    process.send_signal(signal.SIGINT)

    assert ended(process) == (130, "ready\n", "edgefc x: interrupted\n")
    assert not list((tmp_path / "held").iterdir())


def test_the_second_ends_the_process_at_once(tmp_path: Path) -> None:
    body = f"try:\n    {_READY}    time.sleep(60)\nfinally:\n    print('ending', flush=True)\n    time.sleep(60)"
    process = started(tmp_path, body, "endings.REPEAT_S = 0.0")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None and process.stdout.readline() == "ending\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)

    assert ended(process) == (143, "", "edgefc x: terminated\n")
    assert not list((tmp_path / "held").iterdir())


def test_two_that_were_sent_together_are_one(tmp_path: Path) -> None:
    """`timeout` sends SIGTERM to the process and to its group."""
    kept = "print('ending', flush=True)\n    time.sleep(0.3)\n    print('kept')"
    body = f"try:\n    {_READY}    time.sleep(60)\nfinally:\n    {kept}"
    process = started(tmp_path, body)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None and process.stdout.readline() == "ending\n"
    process.send_signal(signal.SIGTERM)

    assert ended(process) == (143, "kept\n", "edgefc x: terminated\n")


def test_one_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """nohup has SIGHUP ignored."""
    process = started(
        tmp_path, _READY + "time.sleep(0.3)\nprint('done')",
        before="import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n",
    )  # fmt: skip
    process.send_signal(signal.SIGHUP)

    assert ended(process) == (0, "done\n", "")


def test_handlers_are_those_of_before() -> None:
    def own(number: int, frame: object) -> None:
        pass

    before = signal.signal(signal.SIGTERM, own)
    try:
        inside: list[object] = []
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

        def work() -> int:
            inside.extend(signal.getsignal(number) for number in numbers)
            return 7

        outside = [signal.getsignal(number) for number in numbers]
        assert endings.run("edgefc x", work) == 7
        assert [signal.getsignal(number) for number in numbers] == outside
        assert inside[1] is own and inside[2] not in outside
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.set_wakeup_fd(-1) == -1


def test_outside_of_the_main_thread_nothing_changes() -> None:
    found: list[object] = []
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(
        target=lambda: endings.run("edgefc x", lambda: found.append(signal.getsignal(signal.SIGTERM)) or 0)
    )
    thread.start()
    thread.join()

    assert found == [before]


class Command:
    """An edgefc command under way, with a temporary folder and a mark of its own."""

    def __init__(self, folder: Path, *words: object) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        self.mark = f"EDGEFC_TEST={folder}"
        name, value = self.mark.split("=")
        variables = {**child.environment(), "TMPDIR": str(self.temporary), name: value}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgefc", *map(str, words)], cwd=ROOT, env=variables,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_for_probe(self) -> None:
        until = time.monotonic() + 60
        while not any("edgefc.runtime.probes.start" in line for line in endless.marked(self.mark)):
            assert self.process.poll() is None and time.monotonic() < until
            time.sleep(0.02)

    def assert_nothing_is_left(self) -> None:
        """torch keeps a folder of its own there, which it uses again."""
        assert endless.left(self.mark) == []
        assert [path.name for path in self.temporary.iterdir() if not path.name.startswith("torchinductor_")] == []


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_a_profile_that_would_never_end(tmp_path: Path) -> None:
    command = Command(tmp_path, "profile", endless.model(tmp_path / "m.onnx"))
    command.wait_for_probe()
    command.process.send_signal(signal.SIGTERM)

    assert ended(command.process) == (143, "", "edgefc profile: terminated\n")
    command.assert_nothing_is_left()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize("name", [*CODES, "SIGKILL"])
@pytest.mark.parametrize("words", [["profile"], ["estimate", "--device", "pi4"]], ids=lambda words: words[0])
def test_signals_at_any_moment(tmp_path: Path, name: str, words: list[str]) -> None:
    path = endless.model(tmp_path / "m.onnx")
    for step in range(10):
        command = Command(tmp_path, *words, path)
        time.sleep(0.25 * step)
        command.process.send_signal(getattr(signal, name))
        code, _, err = ended(command.process)
        starting = {-getattr(signal, name), 1}  # while Python itself starts
        assert code in starting | {CODES.get(name, (0, ""))[0]}, err
        if name == "SIGKILL":
            assert endless.left(command.mark) == []  # the folders are removed by the next call: test_temporary.py
        else:
            command.assert_nothing_is_left()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_verify_while_onnxruntime_runs_in_its_process(tmp_path: Path) -> None:
    path = endless.model(tmp_path / "m.onnx")
    command = Command(tmp_path, "verify", path, "tests/support/cli_models.py:endless")
    until = time.monotonic() + 120
    while time.monotonic() < until and _cpu_s(command.process.pid) < 9:  # importing torch takes less
        time.sleep(0.1)
    command.process.send_signal(signal.SIGTERM)

    assert ended(command.process) == (143, "", "edgefc verify: terminated\n")
    command.assert_nothing_is_left()


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_finished_cells_are_kept(tmp_path: Path, name: str) -> None:
    path, json = models.matmul(tmp_path / "m.onnx"), tmp_path / "record.json"
    batches = ",".join(map(str, range(1, 40)))
    command = Command(
        tmp_path, "profile", path, "--batch", batches, "--time", "0.05", "--no-memory", "--json", json
    )  # fmt: skip
    while not json.exists():
        assert command.process.poll() is None
        time.sleep(0.05)
    command.process.send_signal(getattr(signal, name))
    code, out, err = ended(command.process)

    record = Record.read(json)
    assert (code, err) == (CODES[name][0], f"edgefc profile: {CODES[name][1]}\n")
    assert 0 < len(record.cells) < 39 and record.unfinished == "it was interrupted"
    assert "m.onnx" in out
    command.assert_nothing_is_left()


def test_a_current_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert main(["layers"]) == 2
    assert capsys.readouterr().err == (
        "edgefc layers: the current folder no longer exists. Change to another one: cd ~\n"
    )


_MORE_MEMORY = "Close other programs, or raise the limit of memory (ulimit -v)."
_MAPPED = "libtorch_cpu.so: failed to map segment from shared object"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(24, "Too many open files"), "Too many open files. Raise the limit of open files: ulimit -n 1024."),
        (MemoryError(), f"the system is out of memory. {_MORE_MEMORY}"),
        (MemoryError("std::bad_alloc"), f"the system is out of memory. {_MORE_MEMORY}"),
        (MemoryError("Unable to allocate 8.00 GiB for an array"),
         f"Unable to allocate 8.00 GiB for an array. {_MORE_MEMORY}"),
        (ImportError(f"\nIMPORTANT: READ THIS\n\nOriginal error was: {_MAPPED}\n"),
         f"a library cannot be loaded: {_MAPPED}. "
         "Raise the limit of memory (ulimit -v), if one is set, or install the package again."),
    ],
)  # fmt: skip
def test_what_the_system_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    def fail(_args: object) -> int:
        raise error

    monkeypatch.setattr("edgefc.commands.inspect.run", fail)

    assert main(["inspect", "x"]) == 2
    assert capsys.readouterr().err == f"edgefc inspect: {said}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no limits")
def test_a_library_that_fails_under_a_limit_of_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import resource

    def fail(_args: object) -> int:
        raise SystemError("error return without exception set")

    monkeypatch.setattr("edgefc.commands.inspect.run", fail)

    with pytest.raises(SystemError):
        main(["inspect", "x"])
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (600 << 20, resource.RLIM_INFINITY))
    assert main(["inspect", "x"]) == 2
    assert capsys.readouterr().err == (
        "edgefc inspect: a library failed: SystemError: error return without exception set. "
        "This shell limits the memory: raise the limit (ulimit -v).\n"
    )


@pytest.mark.parametrize("error", [ImportError("cannot import name 'a' from 'b'"), OSError(2, "No such file")])
def test_other_errors_are_shown_whole(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_args: object) -> int:
        raise error

    monkeypatch.setattr("edgefc.commands.inspect.run", fail)

    with pytest.raises(type(error)):
        main(["inspect", "x"])


@pytest.mark.parametrize(("code", "said"), [(None, "SystemExit"), (0, "SystemExit: 0")])
def test_code_of_the_users_that_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int | None, said: str
) -> None:
    """As if all had gone well, where no command expects it."""
    monkeypatch.setattr("edgefc.commands.inspect.run", lambda _args: sys.exit(code))

    assert main(["inspect", "x"]) == 2
    assert capsys.readouterr().err == f"edgefc inspect: the model's code ended the process: {said}.\n"


def test_a_process_ends_also_while_code_of_the_model_runs() -> None:
    """Within exit_raises(), that is: verify runs onnxruntime there."""
    program = (
        "import os\nfrom edgefc import endings\n"
        "def refuse(code): raise SystemExit(0)\n"
        "os._exit = refuse\nendings._Ending('edgefc verify').end_now(15)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "edgefc verify: terminated\n")
