"""Child: where every probe starts. python -m edgefc.runtime.probes.start NAME LIMIT_S

NAME is a module of this folder: `question` is the type of the question, `answer` a function of it. The question is one
line of JSON on stdin. The last line of stdout is {"answer": ...} or {"error": a plain.Failure}.

The process never outlives its parent, which holds stdin open: a thread waits for the end of stdin. A thread waits for
code that keeps Python's lock, so on Linux the kernel ends the process too, when the thread that started it ends; that
thread waits for the answer. After LIMIT_S the kernel ends the process, also when the parent is stopped.
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
    faulthandler.enable()  # ends.py reads what it tells of a crash
    _end_after(float(limit_s))
    _end_with_starter()
    question = _question()
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        reply: dict[str, Any] = {"answer": _answer(name, json.loads(question))}
    except EdgefcError as error:
        reply = {"error": Failure.of(error)}
    print("\n" + encode(reply))  # noqa: T201  a line of its own, whatever a library printed before


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
    """The time runs while the process waits too."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a parent may have had it ignored, or blocked
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, limit_s)


def _end_with_starter() -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _question() -> bytes:
    """The first line of stdin; it is not read through sys.stdin, which a waiting thread would lock."""
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
