"""Run cases, each in a child process forked from a warm server, with limits of time and memory.

The server has imported the modules that the cases need and has made no onnxruntime session, so a case takes
milliseconds. The server adopts orphaned processes, and so detects every process that a case leaves running. The current
folder of a case is `work`. Each case has its own temporary folder and HOME, which are empty at the start.
"""

import contextlib
import ctypes
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import edgefc.cli
from edgefc.errors import EdgefcError
from tests.attack.outcome import EXIT_CODES, OK, Fault, Outcome, of_command, of_text

ROOM = 3 << 30  # bytes of address space beyond those of the server
GRACE_S = 2.0  # how long a process may take to end after a signal
_CACHES = "torchinductor_"  # torch's cache, which torch keeps
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True)
class Case:
    """One hostile case.

    act runs in a child process and gets its current folder, which is empty. It returns None for a right answer, the
    exit code of a command, or an Outcome. It may raise an EdgefcError or a Fault.

    Attributes:
        name     a description
        limit_s  the time limit, after which the case counts as a hang; longer on a loaded machine
        codes    the valid exit codes
    """

    name: str
    act: Callable[[Path], int | Outcome | None]
    limit_s: float = 30.0
    codes: tuple[int, ...] = EXIT_CODES


@dataclass(frozen=True)
class Result:
    """A finished case."""

    number: int
    name: str
    outcome: Outcome
    seconds: float
    out: str = ""
    err: str = ""


def command(*argv: object) -> int:
    """Run `edgefc argv...` in this process and return its exit code."""
    try:
        return edgefc.cli.main([os.fspath(part) if isinstance(part, Path) else str(part) for part in argv])
    except SystemExit as error:  # argparse
        return error.code if isinstance(error.code, int) else 1


class Kind:
    """A module of cases and the folder that its prepare() has filled."""

    def __init__(self, module: Any, seed: int, folder: Path) -> None:
        self.module, self.seed, self.folder = module, seed, folder
        self.name = module.__name__.rpartition(".")[2]

    def prepare(self) -> None:
        """Raises:
        RuntimeError: prepare() failed.
        """
        if hasattr(self.module, "prepare"):
            result = run(lambda: Case("prepare", lambda _: self.module.prepare(self.folder), 600), -1)
            if result.outcome.status != OK:
                raise RuntimeError(f"{self.name} cannot be prepared: {result.outcome}\n{result.err}")

    def case(self, number: int) -> Case:
        made: Case = self.module.case(random.Random(f"{self.name} {self.seed} {number}"), number, self.folder)
        return made

    def run(self, number: int) -> Result:
        return run(lambda: self.case(number), number)


def adopt() -> None:
    """Let this process adopt the processes that its children leave running."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(make: Callable[[], Case], number: int) -> Result:
    """Make and run the case in a child process."""
    with tempfile.TemporaryDirectory(prefix="edgefc-attack-", ignore_cleanup_errors=True) as place:
        folder, started = Path(place), time.monotonic()
        for name in ("work", "tmp", "home"):
            (folder / name).mkdir()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _child(make, folder, writer)
        os.close(writer)
        name, outcome = _watched(child, reader)
        os.close(reader)
        if left := _end_children():
            outcome = outcome if outcome.is_fault else Outcome("child left", "; ".join(left))
        if not outcome.is_fault and number >= 0 and (files := _left(folder)):
            outcome = Outcome("left behind", ", ".join(files))
        texts = [_text(folder / stream) for stream in ("out", "err")]
        _make_removable(folder)
        return Result(number, name, outcome, time.monotonic() - started, *texts)


def _child(make: Callable[[], Case], folder: Path, writer: int) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        for stream, name in ((1, "out"), (2, "err")):
            handle = os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(handle, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder / "work")
        os.environ.update(TMPDIR=str(folder / "tmp"), HOME=str(folder / "home"), COLUMNS="100", NO_COLOR="1")
        tempfile.tempdir = None
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        case = make()
        _say(writer, {"name": case.name, "limit_s": case.limit_s})
        _say(writer, asdict(_acted(case, folder)))
        code = 0
    except BaseException:
        with contextlib.suppress(BaseException):
            _say(writer, asdict(Outcome("harness", traceback.format_exc()[-1500:])))
    finally:
        os._exit(code)


def _acted(case: Case, folder: Path) -> Outcome:
    try:
        result = case.act(folder / "work")
        _flush()
        if isinstance(result, Outcome):
            return result
        if result is None:
            return Outcome(OK)
        return of_command(result, _text(folder / "out"), _text(folder / "err"), case.codes)
    except Fault as fault:
        return fault.outcome
    except EdgefcError as error:
        return of_text(str(error))
    except BaseException as error:
        return Outcome("exception", _where(error) + "\n" + traceback.format_exc(limit=-5)[-1500:])


def _where(error: BaseException) -> str:
    """The last line of a traceback, and the innermost location in edgefc or in the attack itself."""
    frames = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    root = Path(__file__).resolve().parents[2]
    own = [f"{file.relative_to(root)}:{line}" for file, line in frames if file.is_relative_to(root)]
    own = [place for place in own if not place.startswith(".venv")]
    return f"{traceback.format_exception_only(error)[-1].strip()[:300]} at {own[-1] if own else 'nowhere'}"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _say(writer: int, what: dict[str, Any]) -> None:
    os.write(writer, json.dumps(what).encode() + b"\n")


def _watched(child: int, reader: int) -> tuple[str, Outcome]:
    """Wait for the child, which is killed at its limit. Returns the name and the outcome of the case."""
    name, outcome, end, buffer = "(not made)", None, time.monotonic() + 60, b""
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, end - time.monotonic()))
        part = os.read(reader, 1 << 16) if ready else b""
        if not part:
            break
        *lines, buffer = (buffer + part).split(b"\n")
        for message in map(json.loads, lines):
            if "limit_s" in message:
                name, end = message["name"], time.monotonic() + message["limit_s"] * _crowd()
            else:
                outcome, end = Outcome(**message), time.monotonic() + GRACE_S
    status = _reaped(child, end)
    if outcome is not None:
        return name, outcome
    if status is None:
        return name, Outcome("hang", name)
    if os.WIFSIGNALED(status):
        return name, Outcome("crash", signal.Signals(os.WTERMSIG(status)).name)
    return name, Outcome("crash", f"it ended with exit code {os.waitstatus_to_exitcode(status)} and without a message")


def _crowd() -> float:
    """How much slower this machine is because of other load."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _reaped(child: int, end: float) -> int | None:
    """The exit status of the child. None if it had to be killed."""
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _end_children() -> list[str]:
    """End the adopted processes of a case. Returns the command lines of those that did not end by themselves."""
    end, children = time.monotonic() + GRACE_S, _children()
    while children and time.monotonic() < end:
        time.sleep(0.02)
        children = _children()
    for process in children:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    left = [f"process {process}" for process in children]
    return left + (_end_children() if children else [])  # what those had started


def _children() -> list[int]:
    """The running children. The others are reaped."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    running = []
    for process in map(int, pids):
        done, _ = os.waitpid(process, os.WNOHANG)
        if not done:
            running.append(process)
    return running


def _left(folder: Path) -> list[str]:
    """The names in the temporary folder, and hidden names in the working folder."""
    hidden = [f"work/{name}" for name in os.listdir(folder / "work") if name.startswith(".")]
    own = [name for name in os.listdir(folder / "tmp") if not name.startswith(_CACHES)]
    return [f"tmp/{name}" for name in own] + hidden


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="backslashreplace") if path.exists() else ""


def _make_removable(folder: Path) -> None:
    for root, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            os.chmod(root, 0o700)
    shutil.rmtree(folder / "work", ignore_errors=True)
