"""The main program of a child process: python -m edgefc.runtime.probes.start NAME LIMIT_S

NAME is a module of this folder. Its `question` is the type of the question, and its `answer` is the function that
answers it.
The question is one line of JSON on stdin. The last line of stdout is {"answer": ...} or {"error": a plain.Failure}.

The process never outlives its parent. The parent keeps stdin open, and a thread of this process waits for its end. Code
that holds Python's lock can block this thread. On Linux the kernel therefore also kills the process when the parent's
thread that started it, which waits for the answer, ends. After LIMIT_S the kernel ends the process, even if the parent
is stopped.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
from importlib import import_module
from typing import Any

from edgefc.errors import EdgefcError, MissingPackage
from edgefc.runtime.probes.plain import Failure, encode, read

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_BLOCK = 1 << 16


def main(name: str, limit_s: str) -> None:
    faulthandler.enable()  # ends.py reads its report of a crash
    _end_after(float(limit_s))
    _end_with_starter()
    question = _question()
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        reply: dict[str, Any] = {"answer": _answer(name, json.loads(question))}
    except EdgefcError as error:
        reply = {"error": Failure.of(error)}
    print("\n" + encode(reply))  # noqa: T201  starts a new line, because a library may have printed before


def _answer(name: str, question: Any) -> Any:
    try:
        probe = import_module(f"edgefc.runtime.probes.{name}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "edgefc"):
            raise
        text = f"the Python {sys.executable} has no package {missing!r}. Install it there."
        raise MissingPackage(text, subject=missing) from None
    return probe.answer(read(probe.question, question))


def _end_after(limit_s: float) -> None:
    """End the process after limit_s of wall time."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a parent may have ignored or blocked it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, limit_s)


def _end_with_starter() -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _question() -> bytes:
    """The first line of stdin. sys.stdin is not used, because a waiting thread would lock it."""
    read = b""
    while not read.endswith(b"\n"):
        part = os.read(0, _BLOCK)
        if not part:  # the parent has ended
            sys.exit(1)
        read += part
    return read


def _end_with_stdin() -> None:
    while os.read(0, _BLOCK):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
