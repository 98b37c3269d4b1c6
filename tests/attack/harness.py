"""Cases, each in a child that is forked from a warm server, with limits of time and memory.

The server has imported what the cases need and made no onnxruntime session, so a case costs milliseconds. It adopts
what outlives a case, and so sees every process that was left running. A case works in the folder `work`, which is its
current one; its temporary folder and its HOME are empty at the start and its own.
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

ROOM = 3 << 30  # bytes of addresses beyond those of the server
GRACE_S = 2.0  # what a process that was told to end may take
_CACHES = "torchinductor_"  # torch's, which it keeps
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True)
class Case:
    """One hostile thing.

    act runs in a child, in an empty current folder, which it is given. It returns None for a right answer, the exit
    code of a command, or an Outcome; it raises an EdgefcError, or a Fault.

    Attributes:
        name     what is done, in words
        limit_s  beyond this it hangs; longer on a machine that others use
        codes    the exit codes that are right
    """

    name: str
    act: Callable[[Path], int | Outcome | None]
    limit_s: float = 30.0
    codes: tuple[int, ...] = EXIT_CODES


@dataclass(frozen=True)
class Told:
    """A case that was run."""

    number: int
    name: str
    outcome: Outcome
    seconds: float
    out: str = ""
    err: str = ""


def command(*argv: object) -> int:
    """The exit code of `edgefc argv...`, run in this process, which is the case's own."""
    try:
        return edgefc.cli.main([os.fspath(part) if isinstance(part, Path) else str(part) for part in argv])
    except SystemExit as error:  # argparse
        return error.code if isinstance(error.code, int) else 1


class Kind:
    """A module of cases, with the folder that its prepare() filled."""

    def __init__(self, module: Any, seed: int, folder: Path) -> None:
        self.module, self.seed, self.folder = module, seed, folder
        self.name = module.__name__.rpartition(".")[2]

    def prepare(self) -> None:
        """Raises:
        RuntimeError: prepare() failed.
        """
        if hasattr(self.module, "prepare"):
            told = run(lambda: Case("prepare", lambda _: self.module.prepare(self.folder), 600), -1)
            if told.outcome.status != OK:
                raise RuntimeError(f"{self.name} cannot be prepared: {told.outcome}\n{told.err}")

    def case(self, number: int) -> Case:
        made: Case = self.module.case(random.Random(f"{self.name} {self.seed} {number}"), number, self.folder)
        return made

    def run(self, number: int) -> Told:
        return run(lambda: self.case(number), number)


def adopt() -> None:
    """Have this process adopt what its children leave running."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(make: Callable[[], Case], number: int) -> Told:
    """Make the case and run it, both in a child."""
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
        return Told(number, name, outcome, time.monotonic() - started, *texts)


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
        found = case.act(folder / "work")
        _flush()
        if isinstance(found, Outcome):
            return found
        if found is None:
            return Outcome(OK)
        return of_command(found, _text(folder / "out"), _text(folder / "err"), case.codes)
    except Fault as fault:
        return fault.outcome
    except EdgefcError as error:
        return of_text(str(error))
    except BaseException as error:
        return Outcome("exception", _where(error) + "\n" + traceback.format_exc(limit=-5)[-1500:])


def _where(error: BaseException) -> str:
    """Its last line, and the innermost place of edgefc, or of the attack itself."""
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
    """The case's name and its outcome, when the child has ended; it is killed at its limit."""
    name, outcome, end, buffer = "(not made)", None, time.monotonic() + 60, b""
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, end - time.monotonic()))
        part = os.read(reader, 1 << 16) if ready else b""
        if not part:
            break
        *lines, buffer = (buffer + part).split(b"\n")
        for told in map(json.loads, lines):
            if "limit_s" in told:
                name, end = told["name"], time.monotonic() + told["limit_s"] * _crowd()
            else:
                outcome, end = Outcome(**told), time.monotonic() + GRACE_S
    status = _reaped(child, end)
    if outcome is not None:
        return name, outcome
    if status is None:
        return name, Outcome("hang", name)
    if os.WIFSIGNALED(status):
        return name, Outcome("crash", signal.Signals(os.WTERMSIG(status)).name)
    return name, Outcome("crash", f"it ended with exit code {os.waitstatus_to_exitcode(status)} and without a word")


def _crowd() -> float:
    """How many times longer things take, as others use this machine."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _reaped(child: int, end: float) -> int | None:
    """The child's status; None where it had to be killed."""
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _end_children() -> list[str]:
    """End what the case left running, which this process has adopted; the command lines of what ran on by itself."""
    end, found = time.monotonic() + GRACE_S, _children()
    while found and time.monotonic() < end:
        time.sleep(0.02)
        found = _children()
    for process in found:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    left = [f"process {process}" for process in found]
    return left + (_end_children() if found else [])  # what those had started


def _children() -> list[int]:
    """Those that run; the others are reaped."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    running = []
    for process in map(int, found):
        done, _ = os.waitpid(process, os.WNOHANG)
        if not done:
            running.append(process)
    return running


def _left(folder: Path) -> list[str]:
    """Names in the temporary folder, and hidden ones in the working folder."""
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
