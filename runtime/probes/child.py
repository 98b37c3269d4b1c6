"""Child processes: one question, one answer, no shell (start.py is the child's side).

    ask(question)            run the probe in a process of its own, and return its answer, of the question's type
    relay(probe, question)   the same in parsed JSON, whose types somebody else checks
    end_all()                end what is under way, also from another thread

An EdgefcError in the child is raised again in the parent; any other end of the child is a ModelError of one sentence.
A child ends with its parent however the parent ends, and never outlives its time limit by more than GRACE_S.
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

if TYPE_CHECKING:  # it needs numpy and onnxruntime, which a board may lack
    from edgefc.runtime.probes.contracts import Question

A = TypeVar("A")

LIMIT_S = 600.0
GRACE_S = 10.0  # after the limit a child ends by itself, if its parent has not ended it

OWN_ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1"}
"""What processes of edgefc's own have in their environment, unless the user has set it.

onnxruntime 1.31 otherwise writes an identifier of the device and events below the user's home when it is imported.
"""

_PROGRAM = ("-m", "edgefc.runtime.probes.start")
_ALARM = -getattr(signal, "SIGALRM", 0)

# Where this Python looks for modules by the user's wish, as it understood the entries when it started: relative
# ones mean that folder, not the one that is current when a child starts, and empty ones are the current folder.
_PYTHONPATH = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


class Children:
    """Children that are ended together."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._ended, self._lock = False, threading.Lock()

    def ask(self, question: Question[A], *, about: str, limit_s: float = LIMIT_S) -> A:
        """The probe's answer. `about` names the model in the sentence that tells of a child that died.

        Raises:
            EdgefcError: as the probe says, or a ModelError of a child that gave no answer.
        """
        found = self.relay(question.probe, question, about=about, limit_s=limit_s)
        try:
            answer: A = read(question.answer, found)
        except Unfit as error:
            raise _fault(about, str(error)) from None
        return answer

    def relay(self, probe: str, question: Any, *, about: str, limit_s: float = LIMIT_S) -> Any:
        """The probe's answer as parsed JSON; the question is a dataclass or parsed JSON. Raises as ask()."""
        before = ends.oom_kills()
        try:
            done = self._run(probe, question, about, limit_s)
        except subprocess.TimeoutExpired:
            raise _too_long(about, limit_s) from None
        except OSError as error:
            advice = errors.at_limit(error) or "Run edgefc with a Python that can be started again."
            raise errors.ModelError(f"cannot start {sys.executable!r}: {errors.reason_of(error)}. {advice}") from None
        if done.returncode and done.returncode == _ALARM:
            raise _too_long(about, limit_s)
        if done.returncode:
            raise errors.ModelError(f"{about} {ends.why(done.returncode, done.stderr, before)}")
        return _unpacked(done.stdout, about)

    def end_all(self) -> None:
        """End every child that is under way. The ask() that waits for it then raises, and so does every later one."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.kill()

    def _run(self, probe: str, question: Any, about: str, limit_s: float) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *_PROGRAM, probe, f"{limit_s + GRACE_S:g}"]
        with self._lock:
            if self._ended:
                raise errors.ModelError(f"{about} was not run: the measurement was ended. Start it again.")
            process = subprocess.Popen(  # noqa: S603  no shell, and the program is this python
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, encoding="utf-8", errors="replace", env=environment(),
            )  # fmt: skip
            self._running.add(process)
        stdin, process.stdin = process.stdin, None  # communicate() would close it, and its end is the child's end
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


def _fault(about: str, what: str) -> errors.ModelError:
    return errors.ModelError(
        f"{about} gave an answer of another form ({what}). This is a fault of edgefc; please report it."
    )


def environment() -> dict[str, str]:
    """Ours, with this edgefc importable and the current folder not: a user's numpy.py stays out of the child."""
    root = str(Path(errors.__file__).parents[1])
    path = [root] if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")) else []
    given = os.pathsep.join(path + _PYTHONPATH)
    own = {"PYTHONPATH": given, "PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "utf-8"}
    return {**OWN_ENVIRONMENT, **os.environ, **own}
