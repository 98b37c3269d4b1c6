"""Every failure of a child process is one sentence in the parent. No child outlives its parent or its time limit."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import onnxruntime
import pytest

from edgefc.errors import ModelError, UsageError
from edgefc.runtime.inputs import Wanted
from edgefc.runtime.options import SessionOptions
from edgefc.runtime.probes import child, ends
from edgefc.runtime.probes.contracts import ModelToRun, TrialQuestion
from tests.support import endless
from tests.support import onnx_models as models

FORBIDDEN = ("torch", "onnx", "pydantic", "rich")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child.environment())


def imports(*modules: str) -> str:
    """A program that imports these and exits with the forbidden ones it then finds."""
    return f"import sys, {', '.join(modules)}\nsys.exit(' '.join(m for m in {FORBIDDEN} if m in sys.modules) or 0)"


def test_probes_carry_numpy_and_onnxruntime_only() -> None:
    done = run_python(imports("edgefc.runtime", *(f"edgefc.runtime.probes.{n}" for n in PROBES)))

    assert (done.returncode, done.stderr) == (0, "")


PROBES = ("trial", "load", "memory", "steady")
MEMORY = "needs more memory than is available. Give a smaller batch."
FAULT = "This is a fault of edgefc; please report it."
CRASH = "Run it again; please report it if it happens again."


def test_profile_loads_neither_torch_nor_onnx() -> None:
    done = run_python(
        imports("edgefc.runtime.profiling.profiler", "edgefc.runtime.profiling.table", "edgefc.commands.profile")
    )

    assert "torch" not in done.stderr.split() and "onnx" not in done.stderr.split()


def test_the_import_check_can_fail() -> None:
    """Meta-test: importing onnx on purpose is seen."""
    done = run_python(imports("edgefc.runtime", "onnx"))

    assert (done.returncode, done.stderr.split()) == (1, ["onnx"])


def question(path: Path | str) -> TrialQuestion:
    return TrialQuestion((ModelToRun(str(path), SessionOptions()),), Wanted(), (None,))


def test_an_error_in_the_child_is_raised_again(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.onnx: No such file"):
        child.ask(question(tmp_path / "absent.onnx"), about="absent.onnx")


def test_a_child_that_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"m\.onnx was still running after 0\.01 s"):
        child.ask(question(models.matmul(tmp_path / "m.onnx")), about="m.onnx", limit_s=0.01)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was ended with SIGKILL", id="killed"),
        pytest.param("import os; os.abort()", "crashed with SIGABRT", id="aborted"),
        pytest.param("raise MemoryError", "more memory than is available", id="out of memory"),
        pytest.param("raise TypeError('slipped')", "failed in a child process: TypeError", id="a fault"),
        pytest.param("print('no answer')", "ended without an answer", id="silent"),
    ],
)
def test_a_child_that_dies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, message: str) -> None:
    """A stand-in for python runs `code` instead of the probe."""
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}"\n')
    fake.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(fake))

    with pytest.raises(ModelError, match=f"m.onnx .*{message}") as caught:
        child.ask(question("m.onnx"), about="m.onnx")

    assert "\n" not in str(caught.value)


def test_a_numpy_in_the_current_folder_is_not_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("PYTHONSAFEPATH is of Python 3.11")
    path = models.matmul(tmp_path / "m.onnx")
    (tmp_path / "numpy.py").write_text("raise SystemExit('wrong numpy')")
    monkeypatch.chdir(tmp_path)

    assert child.ask(question(Path(os.path.basename(path))), about="m.onnx").rows[0][0].batch == 1


def test_relative_entries_of_pythonpath_are_those_of_the_start(tmp_path: Path) -> None:
    """A folder that became current later is not searched for them, nor for empty entries."""
    root = Path(child.__file__).resolve().parents[2]
    code = (
        "import os; from edgefc.runtime.probes import child; "
        f"os.chdir({str(tmp_path)!r}); print(child.environment()['PYTHONPATH'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((".", "", "absent"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment)

    assert set(done.stdout.strip().split(os.pathsep)) == {str(root), str(root / "absent")}


_SLEEPING = """
import dataclasses, sys, time, types
from edgefc.runtime.probes import start
def answer(asked):
    open(asked.ready, "w").close()
    time.sleep(60)
question = dataclasses.make_dataclass("Ready", [("ready", str)])
sys.modules["edgefc.runtime.probes.sleeping"] = types.SimpleNamespace(question=question, answer=answer)
{off}
start.main(*sys.argv[1:])
"""
_PARENT = """
import sys
from edgefc.runtime.probes import child
child._PROGRAM, child.GRACE_S = ("-c", sys.argv[1]), 0.3
child.relay("sleeping", {"ready": sys.argv[3]}, about="m.onnx", limit_s=float(sys.argv[2]))
"""
_NO_PRCTL, _NO_PIPE = "start._end_with_starter = lambda: None", "start._end_with_stdin = lambda: None"


def parent_of_a_sleeper(folder: Path, off: str, limit_s: float) -> "tuple[subprocess.Popen[bytes], str]":
    """A process that waits for a child, and the mark of both; `off` switches mechanisms of the child off."""
    mark = f"EDGEFC_TEST={folder}"
    name, value = mark.split("=")
    process = subprocess.Popen(
        [sys.executable, "-c", _PARENT, _SLEEPING.format(off=off), str(limit_s), str(folder / "ready")],
        env={**child.environment(), name: value}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 30
    while not (folder / "ready").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    return process, mark


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize("off", [_NO_PRCTL, _NO_PIPE], ids=["by the pipe", "by the kernel"])
def test_a_child_ends_with_its_parent(tmp_path: Path, off: str) -> None:
    process, mark = parent_of_a_sleeper(tmp_path, off, 60)
    process.kill()
    process.wait(10)

    assert endless.left(mark) == []


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_a_child_ends_at_its_limit_when_its_parent_is_stopped(tmp_path: Path) -> None:
    process, mark = parent_of_a_sleeper(tmp_path, "", 2.0)
    process.send_signal(signal.SIGSTOP)
    try:
        until = time.monotonic() + 10
        while len(endless.marked(mark)) > 1 and time.monotonic() < until:
            time.sleep(0.05)
        assert len(endless.marked(mark)) == 1
    finally:
        process.kill()
        process.wait()


def test_a_child_that_its_alarm_ended_was_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_PROGRAM", ("-c", _SLEEPING.format(off="")))
    monkeypatch.setattr(child, "GRACE_S", -29.5)

    with pytest.raises(ModelError, match=r"^m\.onnx was still running after 30 s\. Give a smaller batch"):
        child.relay("sleeping", {"ready": os.devnull}, about="m.onnx", limit_s=30)


def test_children_that_are_ended_from_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_PROGRAM", ("-c", _SLEEPING.format(off="")))
    children = child.Children()
    timer = threading.Timer(0.5, children.end_all)
    timer.start()

    with pytest.raises(ModelError, match="was ended with SIGKILL"):
        children.relay("sleeping", {"ready": os.devnull}, about="m.onnx")
    timer.join()
    with pytest.raises(ModelError, match=r"m\.onnx was not run: the measurement was stopped"):
        children.relay("sleeping", {"ready": os.devnull}, about="m.onnx")


_DUMP = """Fatal Python error: Aborted

Thread 0x00007f0000000700 (most recent call first):
  File "probe.py", line 62 in _end_with_stdin

Current thread 0x00007f0000000740 (most recent call first):
  File "/site-packages/onnxruntime/capi/onnxruntime_inference_collection.py", line 300 in run

Extension modules: numpy.core._multiarray_umath (total: 2)
"""


@pytest.mark.parametrize(
    ("code", "stderr", "message"),
    [
        (-9, "", "was ended with SIGKILL, but not by the system's out-of-memory killer. Run it again."),
        (-15, "", "was ended with SIGTERM by another process. Run it again."),
        (-24, "", "used all the CPU time that this shell allows. Raise the limit: ulimit -t unlimited."),
        (-11, "Segmentation fault (core dumped)\n", f"crashed with SIGSEGV. {CRASH}"),
        (-6, "free(): invalid pointer\n" + _DUMP,
         "crashed with SIGABRT while onnxruntime ran it: free(): invalid pointer. Try another version of onnxruntime."),
        (-6, _DUMP.replace("300 in run", "500 in _create_inference_session"),
         "crashed with SIGABRT while onnxruntime loaded it. Try another version of onnxruntime."),
        (-6, "terminate called after throwing an instance of 'std::out_of_range'\n  what():  map::at\nAborted\n",
         f"crashed with SIGABRT: map::at. {CRASH}"),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n", MEMORY),
        (1, "=====\n==12==ERROR: AddressSanitizer: heap-use-after-free on address 0x1\n    #0 0x1 in f\nABORTING\n",
         f"failed in a child process: ERROR: AddressSanitizer: heap-use-after-free on address 0x1. {FAULT}"),
        (1, "Traceback (most recent call last):\n  File 'x'\nValueError: first\n  second line\n",
         f"failed in a child process: ValueError: first. {FAULT}"),
        (1, "Traceback (most recent call last):\nnumpy.exceptions.AxisError: axis 3\nAborted (core dumped)\n",
         f"failed in a child process: numpy.exceptions.AxisError: axis 3. {FAULT}"),
        (1, "MemoryError\n", MEMORY),
        (1, "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8 GiB for an array\n", MEMORY),
        (1, "OSError: [Errno 24] Too many open files: 'x'\n",
         "needs more open files than the system allows. Raise the limit: ulimit -n 1024."),
        (1, "RuntimeError: can't start new thread\n",
         "needs more threads than the system allows. Raise the limit: ulimit -u 1024."),
        (3, "", f"failed in a child process: exit code 3. {FAULT}"),
    ],
)  # fmt: skip
def test_why_a_child_ended(monkeypatch: pytest.MonkeyPatch, code: int, stderr: str, message: str) -> None:
    monkeypatch.setattr(ends, "oom_kills", lambda: 4)

    assert ends.why(code, stderr, 4) == message


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (4, 5, "was ended by the system's out-of-memory killer. Give a smaller batch."),
        (None, 5, "was ended with SIGKILL, and this system does not report why. Run it again."),
        (4, None, "was ended with SIGKILL, and this system does not report why. Run it again."),
    ],
)
def test_the_kernel_says_whether_memory_ran_out(
    monkeypatch: pytest.MonkeyPatch, before: int | None, after: int | None, message: str
) -> None:
    monkeypatch.setattr(ends, "oom_kills", lambda: after)

    assert ends.why(-9, "", before) == message


def test_the_counter_is_that_of_the_control_group_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_CGROUP", "_CGROUPS", "_VMSTAT"):
        monkeypatch.setattr(ends, name, tmp_path / name)
    assert ends.oom_kills() is None
    (tmp_path / "_VMSTAT").write_text("nr_free_pages 7\noom_kill 1\n")
    assert ends.oom_kills() == 1
    (tmp_path / "_CGROUP").write_text("4:memory:/a/b\n0::/c\n")
    one = tmp_path / "_CGROUPS" / "memory" / "a" / "b" / "memory.oom_control"
    one.parent.mkdir(parents=True)
    one.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert ends.oom_kills() == 2
    (tmp_path / "_CGROUP").write_text("0::/c\n")
    two = tmp_path / "_CGROUPS" / "c" / "memory.events"
    two.parent.mkdir(parents=True)
    two.write_text("low 0\noom 9\noom_kill 3\noom_group_kill 0\n")
    assert ends.oom_kills() == 3


@pytest.mark.slow
def test_a_child_that_the_out_of_memory_killer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a control group of 64 MB, which needs root and control groups of version 1."""
    group = Path(f"/sys/fs/cgroup/memory/edgefc-test-{os.getpid()}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("64M")
    except OSError:
        pytest.skip("no control groups that can be made")
    greedy = "x = [bytearray(b'x' * 10**7) for _ in range(100)]"
    program = _PARENT.replace("import sys\n", f"import sys\nopen('{group}/cgroup.procs', 'w').write('0')\n")
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, greedy, "60", ""], env=child.environment(), capture_output=True, text=True
        )
    finally:
        time.sleep(0.2)
        group.rmdir()

    assert "m.onnx was ended by the system's out-of-memory killer. Give a smaller batch." in done.stderr


@pytest.mark.parametrize("given", [None, "0", "1", ""])
def test_telemetry_is_off_unless_the_user_has_set_it(monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    if given is not None:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", given)

    assert child.environment()["ORT_DISABLE_TELEMETRY"] == ("1" if given is None else given)


# onnxruntime sends nothing where it finds one of these.
_CI_VARIABLES = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "APPVEYOR", "BUILDKITE",
                 "JENKINS_URL", "TEAMCITY_VERSION", "CODEBUILD_BUILD_ID")  # fmt: skip


def empty_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    xdg = [name for name in os.environ if name.startswith("XDG_")]
    for name in (*xdg, *_CI_VARIABLES, "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    home = folder / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


def test_a_probe_leaves_nothing_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, path = empty_home(tmp_path, monkeypatch), models.matmul(tmp_path / "m.onnx")

    child.ask(question(path), about="m.onnx")
    assert list(home.iterdir()) == []

    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 31):  # the check can fail
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
        child.ask(question(path), about="m.onnx")
        assert list(home.iterdir()) != []


@pytest.mark.slow
def test_commands_leave_nothing_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, path = empty_home(tmp_path, monkeypatch), tmp_path / "m.onnx"
    source = "tests/support/cli_models.py:tiny_and_inputs"
    for words in (
        ["export", source, "-o", path],
        ["verify", path, source],
        ["inspect", path],
        ["profile", path, "--time", "0.01"],
        ["estimate", path, "--device", "pi4"],
        ["bench", "--n", "32", "--batch", "1", "--layers", "circulant", "--time", "0.01"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "edgefc", *map(str, words)], env=child.environment(), capture_output=True, text=True,
            cwd=Path(__file__).resolve().parents[3],
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert list(home.iterdir()) == [], words[0]
