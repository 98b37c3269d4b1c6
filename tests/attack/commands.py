"""Run one edgefc command in a separate process: start it, kill it, and judge its outcome.

Setting      environment, folder, streams, limits and user of the command
fresh()      start `edgefc ...` as a shell does
forked()     the same by forking this process, which has imported torch: an export takes two seconds instead of seven
judged()     the outcome of a Done
apart()      run a function in a separate process, for example a check that makes onnxruntime sessions
"""

from __future__ import annotations

import json
import os
import re
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tests.attack.warm  # noqa: F401  for forked()
from edgefc import cli
from edgefc import temporary as own
from tests.attack.outcome import OK, Outcome, of_command

ROOT = Path(__file__).resolve().parents[2]
MARK = "EDGEFC_ATTACK"  # an environment variable that identifies all processes started by a command
LIMIT_S = 300.0  # time limit of one command, on a loaded machine
GONE_S = 3.0  # how long child processes may outlive the command
_UNSET = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "PYTHONPATH", "COLUMNS", "TERM", "NO_COLOR", "FORCE_COLOR", "LC_ALL")
_NOTES = re.compile(r"^(\d+ (rows were finished|trainings are kept)|trained \d|exported and|measured load).*\n", re.M)
_WIDE = ("utf-16", "cp037")  # encodings in which ASCII has other bytes
_BIDI = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@dataclass(frozen=True)
class Setting:
    """The conditions of a command.

    env      changes to this process's environment; None removes a variable
    cwd      the current folder; with `gone` it is removed before the start
    streams  a path, or "closed", for "stdin", "stdout" and "stderr". Default: an empty stdin, and captured output
    limits   for resource.setrlimit: ("RLIMIT_NOFILE", 12)
    """

    env: Mapping[str, str | None] = field(default_factory=dict)
    cwd: Path | None = None
    gone: bool = False
    streams: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[tuple[str, int], ...] = ()
    uid: int | None = None
    umask: int | None = None


@dataclass(frozen=True)
class Done:
    """A finished command. code is negative for a signal, and None if the command exceeded its time limit."""

    code: int | None
    out: str
    err: str
    seconds: float
    left: tuple[str, ...]

    @property
    def end(self) -> str:
        """The last output, for reports."""
        return f"exit code {self.code}: {(self.err.strip() or self.out.strip())[-400:]}"


class Started:
    """A running command. Its output goes to two files of a folder."""

    def __init__(self, pid: int, folder: Path, mark: str, encoding: str = "utf-8") -> None:
        self.pid, self.folder, self.mark, self.encoding, self.began = pid, folder, mark, encoding, time.monotonic()

    def kill(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the command, as `kill` does, or to its whole process group, as a terminal does."""
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def ended(self, limit_s: float) -> int | None:
        until, pause = time.monotonic() + limit_s, 0.001
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > until:
                return None
            time.sleep(pause)
            pause = min(0.05, pause * 1.2)

    def done(self, limit_s: float = LIMIT_S) -> Done:
        code = self.ended(limit_s)
        seconds = time.monotonic() - self.began
        if code is None:
            self.kill(signal.SIGKILL)
            self.ended(LIMIT_S)
        left = _left(self.mark, self.pid)
        printed = [(self.folder / name).read_bytes() for name in ("out", "err")]
        out, err = (each.decode(self.encoding, "backslashreplace").removeprefix("\ufeff") for each in printed)
        return Done(code, out, err, seconds, left)


def fresh(argv: Sequence[object], setting: Setting, folder: Path) -> Started:
    """Start `edgefc *argv` in a new process and session. Its output goes to `folder`."""
    mark, env = _prepared(folder), environment(setting)
    if "ORT_DISABLE_TELEMETRY" not in setting.env:  # edgefc's to set; this process has it from edgefc
        env.pop("ORT_DISABLE_TELEMETRY", None)
    process = subprocess.Popen(
        [*_program(), *map(str, argv)], env={**env, MARK: mark}, start_new_session=True,
        preexec_fn=lambda: enter(setting, folder),
    )  # fmt: skip
    process.returncode = 0  # Started waits for it
    named = (setting.env.get("PYTHONIOENCODING") or "").partition(":")[0]
    return Started(process.pid, folder, mark, named if named in _WIDE else "utf-8")


def forked(
    argv: Sequence[object], setting: Setting, folder: Path, before: Callable[[], None] = lambda: None
) -> Started:
    """As fresh(), without the time for imports. `before` is called in the new process."""
    mark = _prepared(folder)
    pid = os.fork()
    if pid:
        return Started(pid, folder, mark)
    code = 1
    try:
        os.setsid()
        wanted = {**environment(setting), MARK: mark}
        os.environ.clear()
        os.environ.update(wanted)
        tempfile.tempdir = None
        enter(setting, folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _reopen()
        before()
        code = _main(list(map(str, argv)))
    finally:
        os._exit(code)


def _main(argv: list[str]) -> int:
    """Run the command with the exit code and the traceback of a normal Python process."""
    sys.argv = ["edgefc", *argv]
    try:
        code = cli.main(argv)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    own.remove_all()  # as Python does at exit; other exit handlers would remove folders of the attack
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError:
            code = 120
    return code


def _reopen() -> None:
    """Make stdout and stderr as a new Python process does."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        errors = "backslashreplace" if number == 2 else "strict"
        try:
            stream: Any = os.fdopen(os.dup(number), "w", encoding="utf-8", errors=errors)
        except OSError:
            stream = None
        setattr(sys, name, stream)


def environment(setting: Setting) -> dict[str, str]:
    given: dict[str, str | None] = {name: value for name, value in os.environ.items() if name not in _UNSET}
    given |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "160", **setting.env}
    return {name: value for name, value in given.items() if value is not None}


def enter(setting: Setting, folder: Path) -> None:
    """Apply a setting in the new process, before the command begins."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_DFL)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))  # the harness's
    for number, path, mode in (
        (0, setting.streams.get("stdin", os.devnull), os.O_RDONLY),
        (1, setting.streams.get("stdout", str(folder / "out")), os.O_WRONLY | os.O_APPEND),
        (2, setting.streams.get("stderr", str(folder / "err")), os.O_WRONLY | os.O_APPEND),
    ):
        if path == "closed":
            os.close(number)
        else:
            opened = os.open(path, mode)
            os.dup2(opened, number)
            os.close(opened)
    if setting.cwd is not None:
        os.chdir(setting.cwd)
        if setting.gone:
            os.rmdir(setting.cwd)
    if setting.umask is not None:
        os.umask(setting.umask)
    for name, value in setting.limits:
        resource.setrlimit(getattr(resource, name), (value, value))
    if setting.uid is not None:
        os.setgroups([])
        os.setgid(setting.uid)
        os.setuid(setting.uid)


def judged(done: Done, codes: Collection[int], *, stderr_works: bool = True) -> Outcome:
    """The outcome of a command.

    Args:
        codes: the valid exit codes, negative for signals.
        stderr_works: whether stderr can be written.
    """
    if done.code is None:
        return Outcome("hang", done.end)
    if done.left:
        return Outcome("child left", "; ".join(done.left))
    if done.code < 0:
        name = signal.Signals(-done.code).name
        return Outcome(OK) if done.code in codes else Outcome("crash", f"{name}: {done.end}")
    if bidi := next((letter for letter in done.out + done.err if letter in _BIDI), None):
        return Outcome("control characters", f"U+{ord(bidi):04X}: {done.end}")
    outcome = of_command(done.code, done.out, _NOTES.sub("", done.err), tuple(codes))
    if not stderr_works and outcome.status in ("no sentence", "noise"):
        return Outcome(OK)
    return outcome


def was_killed(done: Done, number: int) -> Outcome:
    """The outcome of a command that got a signal: it must end before, or with the exit code of the signal."""
    if done.code in (-number, 128 + number):
        if "Traceback" in done.err and "/edgefc/cli.py" in done.err:  # Python's own start may show one
            return Outcome("traceback", done.end)
        return Outcome("child left", "; ".join(done.left)) if done.left else Outcome(OK)
    return judged(done, {0})


def apart(function: Callable[[], Outcome | None]) -> Outcome | None:
    """Run a function in a child process and return its outcome. This process stays single-threaded, so that it can be
    forked again."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        try:
            outcome = function()
            os.write(writer, json.dumps(None if outcome is None else asdict(outcome)).encode())
        except BaseException as error:
            os.write(writer, json.dumps(asdict(Outcome("harness", repr(error)[:1000]))).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if not answer:
        return Outcome("crash", "a check ended without a message")
    value = json.loads(answer)
    return None if value is None else Outcome(**value)


def first(*checks: Callable[[], Outcome | None]) -> Outcome:
    """Run checks in order and return the first fault. Without a fault, return the outcome of the first check."""
    result = Outcome(OK)
    for number, check in enumerate(checks):
        outcome = check()
        if outcome is not None and outcome.is_fault:
            return outcome
        result = outcome if number == 0 and outcome is not None else result
    return result


def temporary(work: Path) -> Outcome | None:
    """A fault if temporary files are left."""
    folder = work.parent / "tmp"
    for path in folder.iterdir():  # Python's own test files, made before edgefc runs
        if path.is_file() and re.fullmatch("[a-z0-9_]{8}", path.name):
            path.unlink()
    names = [str(path.relative_to(work.parent)) for path in work.rglob(".*")]
    names += [f"tmp/{name}" for name in os.listdir(folder)]
    return Outcome("left behind", ", ".join(names)) if names else None


def letters(text: str) -> str | None:
    """The first control character."""
    bad = (each for each in text if (unicodedata.category(each) == "Cc" and each not in "\n\t") or each in _BIDI)
    return next((f"U+{ord(each):04X}" for each in bad), None)


def numbers(text: str) -> set[str]:
    """The words of a text that contain digits."""
    return set(re.findall(r"[^\s\u2502]*\d[^\s\u2502]*", text))


def _program() -> list[str]:
    script = Path(sys.executable).with_name("edgefc")
    return [sys.executable, str(script)] if script.exists() else [sys.executable, "-m", "edgefc"]


def _prepared(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    for name in ("out", "err"):
        (folder / name).write_bytes(b"")
        (folder / name).chmod(0o666)
    return secrets.token_hex(8)


def _left(mark: str, session: int) -> tuple[str, ...]:
    """The command lines of processes with this mark or session that still run after GONE_S. They are killed."""
    until = time.monotonic() + GONE_S
    while (processes := list(marked(mark, session))) and time.monotonic() < until:
        time.sleep(0.02)
    for pid, _ in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return tuple(command for _, command in processes)


def marked(mark: str, session: int) -> Iterator[tuple[int, str]]:
    wanted = f"{MARK}={mark}".encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        entry = Path("/proc", name)
        with suppress(OSError):
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] in "ZX":
                continue
            if int(fields[3]) == session or wanted in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield int(name), command[:120]
