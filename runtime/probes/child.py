"""The parent's side of child processes: one question and one answer each, no shell. start.py is the child's side.

    ask(question)            run a probe in a new process, and return its answer as the dataclass of the question
    relay(probe, question)   the same, but return parsed JSON, whose types the caller checks
    end_all()                end all running children; may be called from any thread

An EdgefcError in the child is raised again in the parent; any other failure of the child is a ModelError.
A child ends when its parent ends for any reason, and at most GRACE_S after its time limit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgefc import errors
from edgefc.runtime.probes import ends
from edgefc.runtime.probes.plain import Failure, Unfit, encode, read

if TYPE_CHECKING:  # the import needs numpy and onnxruntime, which a board may lack
    from edgefc.runtime.probes.contracts import Question

A = TypeVar("A")

LIMIT_S = 600.0
GRACE_S = 10.0  # seconds after the limit at which a child ends itself if its parent has not ended it

OWN_ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1"}
"""Variables that edgefc sets in the environment of its processes, unless the user has set them.

Without them, onnxruntime 1.31 writes an identifier of the device and events to the user's home when it is imported.
"""

_PROGRAM = ("-m", "edgefc.runtime.probes.start")
_ALARM = -getattr(signal, "SIGALRM", 0)

# PYTHONPATH as this Python understood it when it started: relative entries refer to the folder that was current then,
# not to the one that is current when a child starts. Empty entries mean the current folder, and are left out.
_PYTHONPATH = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


class Children:
    """A set of children that can be ended together."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._ended, self._lock = False, threading.Lock()

    def ask(self, question: Question[A], *, about: str, limit_s: float = LIMIT_S) -> A:
        """The probe's answer. `about` names the model in messages about a child that failed.

        Raises:
            EdgefcError: the error of the probe, or a ModelError if the child gave no answer.
        """
        reply = self.relay(question.probe, question, about=about, limit_s=limit_s)
        try:
            answer: A = read(question.answer, reply)
        except Unfit as error:
            raise _invalid(about, str(error)) from None
        return answer

    def relay(self, probe: str, question: Any, *, about: str, limit_s: float = LIMIT_S) -> Any:
        """The probe's answer as parsed JSON. The question is a dataclass or parsed JSON.

        Raises:
            EdgefcError: as ask().
        """
        before = ends.oom_kills()
        try:
            done = self._run(probe, question, about, limit_s)
        except subprocess.TimeoutExpired:
            raise _too_long(about, limit_s) from None
        except OSError as error:
            advice = errors.at_limit(error) or "Run edgefc with a Python executable that can be started."
            raise errors.ModelError(f"cannot start {sys.executable!r}: {errors.reason_of(error)}. {advice}") from None
        if done.returncode and done.returncode == _ALARM:
            raise _too_long(about, limit_s)
        if done.returncode:
            raise errors.ModelError(f"{about} {ends.why(done.returncode, done.stderr, before)}")
        return _unpacked(done.stdout, about)

    def end_all(self) -> None:
        """End every running child. An ask() that waits for one raises ModelError, and so does every later ask()."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.kill()

    def _run(self, probe: str, question: Any, about: str, limit_s: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *_PROGRAM, probe, f"{limit_s + GRACE_S:g}"]
        with self._lock:
            if self._ended:
                raise errors.ModelError(f"{about} was not run: the measurement was stopped. Start it again.")
            process = subprocess.Popen(  # noqa: S603  no shell, and the program is this python
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, encoding="utf-8", errors="replace", env=environment(),
            )  # fmt: skip
            self._running.add(process)
        stdin, process.stdin = process.stdin, None  # communicate() would close stdin, and the child ends at its end
        assert stdin is not None
        try:
            with suppress(BrokenPipeError):
                stdin.write(encode(question) + "\n")
                stdin.flush()
            out, err = process.communicate(timeout=limit_s)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            self._running.discard(process)
            with suppress(BrokenPipeError):
                stdin.close()
            for pipe in (process.stdout, process.stderr):
                assert pipe is not None
                pipe.close()
        return subprocess.CompletedProcess(command, process.returncode, out, err)


_all = Children()
ask, relay, end_all = _all.ask, _all.relay, _all.end_all


def _too_long(about: str, limit_s: float) -> errors.ModelError:
    return errors.ModelError(
        f"{about} was still running after {limit_s:g} s. Give a smaller batch, or a smaller model."
    )


def _unpacked(stdout: str, about: str) -> Any:
    try:
        reply = json.loads(stdout.rstrip().rpartition("\n")[2])
    except ValueError:
        raise errors.ModelError(f"{about} ended without an answer. Run it again.") from None
    if "error" in reply:
        raise read(Failure, reply["error"]).error()
    return reply["answer"]


def _invalid(about: str, what: str) -> errors.ModelError:
    return errors.ModelError(f"{about} gave an invalid answer ({what}). This is a fault of edgefc; please report it.")


def environment() -> dict[str, str]:
    """This process's environment, changed so that a child can import this edgefc, but no module of the current folder.

    Otherwise the child would import a file numpy.py of the user instead of numpy.
    """
    root = str(Path(errors.__file__).parents[1])
    path = [root] if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")) else []
    given = os.pathsep.join(path + _PYTHONPATH)
    own = {"PYTHONPATH": given, "PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "utf-8"}
    return {**OWN_ENVIRONMENT, **os.environ, **own}
