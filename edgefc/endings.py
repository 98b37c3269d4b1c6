"""How a command ends when it is told to: SIGINT (Ctrl-C), SIGTERM (kill, timeout) and SIGHUP (a closed terminal).

The first signal raises KeyboardInterrupt in the main thread. A command then shows and writes what it had finished, and
its children and temporary folders are removed. The second ends the process at once; signals within REPEAT_S are taken
as one, because `timeout` and terminals send theirs twice.

Python handles a signal only between two steps of its own. While one long step runs (onnxruntime in this process, a
product of torch), a thread waits, and ends the process after STEP_S; it also ends one that has not ended by itself
LONGEST_S after the signal. Temporary folders are removed in each case.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from edgefc import temporary
from edgefc.screen import err

REPEAT_S = 0.5
STEP_S = 4.0
LONGEST_S = 20.0  # longer than the 15 s that a connection to a silent board takes to close
_LOOK_S = 0.1
_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hangup"}
_SIGNALS: dict[int, str] = {getattr(signal, name): word for name, word in _WORDS.items() if hasattr(signal, name)}
_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)
_leave = os._exit  # while code of the model runs, os._exit() raises an exception (export/model/isolation.py)
_OVER = b"\0"  # no signal has this number


def run(name: str, work: Callable[[], int]) -> int:
    """The exit code of work(), or, after a signal, a line on stderr that begins with `name`, and 130, 143 or 129.

    A signal that is ignored (by nohup, or in the background of a script) stays ignored, and one that the calling
    program handles itself stays its own. Outside of the main thread nothing changes.
    """
    ending = _Ending(name)
    with _handled(ending):
        try:
            ending.begin()
            code = work()
            ending.finish()
        except KeyboardInterrupt:
            pass
        except OSError:
            if ending.number is None:
                raise  # otherwise what was finished could not be shown: the terminal is gone
        else:
            return code
    exec("")  # noqa: S102  otherwise Python ends itself with SIGINT if the exception passed through an exec() before
    err(ending.line)
    return ending.code


class _Ending:
    def __init__(self, name: str) -> None:
        self.name = name
        self.number: int | None = None  # the first signal
        self.raises, self.watched = False, False
        self._since = 0.0

    @property
    def code(self) -> int:
        """As shells have it."""
        return 128 + (self.number or signal.SIGINT)

    @property
    def line(self) -> str:
        return f"{self.name}: {_SIGNALS[self.number or signal.SIGINT]}"

    def begin(self) -> None:
        """From now on a signal raises KeyboardInterrupt, and one that has come already does so here."""
        self.raises = True
        if self.number is not None:
            raise KeyboardInterrupt

    def finish(self) -> None:
        """A signal raises nothing from now on: the process is about to end."""
        self.raises = False

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if self.number is None:
            self.number, self._since = number, time.monotonic()
            if self.raises:
                raise KeyboardInterrupt
        elif not self.watched and time.monotonic() - self._since > REPEAT_S:
            self.end_now(self.number)

    def watch(self, reader: int) -> None:
        """In a thread. `reader` has a byte for each signal, written by the system's handler, which never waits."""
        with open(reader, "rb", buffering=0) as numbers:
            first = numbers.read(1)
            while first not in (_OVER, b"") and first[0] not in _SIGNALS:
                first = numbers.read(1)
            if first in (_OVER, b""):
                return
            start = time.monotonic()
            os.set_blocking(reader, False)
            while (more := numbers.read(1)) not in (_OVER, b""):  # None: there is nothing yet
                passed = time.monotonic() - start
                again = more is not None and more[0] in _SIGNALS and passed > REPEAT_S
                if again or passed > (STEP_S if self.number is None else LONGEST_S):
                    self.end_now(first[0])
                if more is None:
                    time.sleep(_LOOK_S)

    def end_now(self, number: int) -> None:
        self.number = number
        temporary.remove_all()
        with suppress(OSError):
            os.write(2, f"{self.line}\n".encode(errors="replace"))
        _leave(self.code)


@contextmanager
def _handled(ending: _Ending) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    replaced = {number: before for number in _SIGNALS if (before := signal.getsignal(number)) in _DEFAULT}
    with _watched(ending):
        try:
            for number in replaced:
                signal.signal(number, ending.handle)
            yield
        finally:
            for number, before in replaced.items():
                signal.signal(number, before)


@contextmanager
def _watched(ending: _Ending) -> Iterator[None]:
    """Without the thread where the system has no room for it, or the program waits for signals in its own way."""
    before = signal.set_wakeup_fd(-1)
    if before != -1:
        signal.set_wakeup_fd(before)
        yield
        return
    try:
        reader, writer = os.pipe()
    except OSError:
        yield
        return
    os.set_blocking(writer, False)
    thread = threading.Thread(target=ending.watch, args=(reader,), daemon=True)
    try:
        thread.start()
    except RuntimeError:
        os.close(reader)
        os.close(writer)
        yield
        return
    ending.watched = True
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        os.write(writer, _OVER)
        thread.join()
        os.close(writer)
