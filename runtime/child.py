"""Child processes: one question as JSON on stdin, one answer as JSON on stdout, no shell.

    ask(probe, question)   in the parent: run `python -m edgefc.runtime.<probe>` and return its answer
    answer(function)       in the child: what a probe's last line calls

An EdgefcError in the child is raised again in the parent; any other end of the child is a ModelError of one sentence.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgefc import errors

LIMIT_S = 600.0
_TIED = "EDGEFC_TIED"  # the process that a child ends with
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

tied = False  # whether children end with this process even when it is killed (Linux): the agent sets it
running: set[subprocess.Popen[str]] = set()  # what kill_all() ends

# Where this Python looks for modules by the user's wish, as it understood the entries when it started: relative
# ones mean that folder, not the one that is current when a child starts, and empty ones are the current folder.
_PYTHONPATH = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


def ask(probe: str, question: dict[str, Any], *, about: str, limit_s: float = LIMIT_S) -> Any:
    """The probe's answer. `about` names the model in the sentence that tells of a child that died."""
    try:
        done = _run([sys.executable, "-m", f"edgefc.runtime.{probe}"], json.dumps(question), limit_s)
    except subprocess.TimeoutExpired:
        raise errors.ModelError(
            f"{about} was still running after {limit_s:g} s. Give a smaller batch, or a smaller model."
        ) from None
    except OSError as error:
        raise errors.ModelError(
            f"cannot start {sys.executable!r}: {error.strerror}. Run edgefc with a Python that can be started again."
        ) from None
    if done.returncode:
        raise errors.ModelError(f"{about} {_end(done)}")
    return _unpacked(done.stdout, about)


def kill_all() -> None:
    """End every child that is under way; the ask() that waits for it then raises."""
    for process in list(running):
        process.kill()


def _run(command: list[str], question: str, limit_s: float) -> subprocess.CompletedProcess[str]:
    with subprocess.Popen(  # noqa: S603  no shell, and the program is this python
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, encoding="utf-8", errors="replace", env=environment(),
    ) as process:  # fmt: skip
        running.add(process)
        try:
            out, err = process.communicate(question, timeout=limit_s)
        except BaseException:
            process.kill()
            raise
        finally:
            running.discard(process)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _tie() -> None:
    """Have the kernel end this process when the one that started it ends."""
    if os.environ.get(_TIED) and sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(os.environ[_TIED]):  # it has ended already
            sys.exit(1)


def answer(function: Callable[[dict[str, Any]], Any]) -> None:
    """Read a question, print the answer or the EdgefcError."""
    question = json.loads(sys.stdin.read())
    try:
        reply = {"answer": function(question)}
    except errors.EdgefcError as error:
        reply = {"error": type(error).__name__, "text": str(error)}
    print("\n" + json.dumps(reply))  # noqa: T201  a line of its own, whatever a library printed before


def _unpacked(stdout: str, about: str) -> Any:
    try:
        reply = json.loads(stdout.rstrip().rpartition("\n")[2])
    except ValueError:
        raise errors.ModelError(f"{about} ended without an answer. Run it again.") from None
    if "error" in reply:
        raise getattr(errors, reply["error"])(reply["text"])
    return reply["answer"]


def _end(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        number = -done.returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        hint = "Memory probably ran out: give a smaller batch." if name == "SIGKILL" else "Try another onnxruntime."
        return f"ended with {name} in onnxruntime. {hint}"
    last = done.stderr.strip().rpartition("\n")[2]
    if last.startswith("MemoryError") or "bad_alloc" in last or "_ArrayMemoryError" in last:
        return "needs more memory than there is. Give a smaller batch."
    why = errors.shortened(last) or done.returncode
    return f"failed in a child process: {why}. This is a fault of edgefc; please report it."


def environment() -> dict[str, str]:
    """Ours, with this edgefc importable and the current folder not: a user's numpy.py stays out of the child."""
    root = str(Path(errors.__file__).parents[1])
    path = [root] if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")) else []
    given = os.pathsep.join(path + _PYTHONPATH)
    parent = {_TIED: str(os.getpid())} if tied else {}
    return {**os.environ, **parent, "PYTHONPATH": given, "PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "utf-8"}


_tie()  # here, because what a probe imports after this takes long
