"""Handling of the signals that end a command: SIGINT (Ctrl-C), SIGTERM (kill, timeout) and SIGHUP (a closed terminal).

The first signal raises KeyboardInterrupt in the main thread. The command then shows and writes the results that are
complete, stops its child processes and removes its temporary folders. A second signal ends the process at once. Signals
within REPEAT_S of the first count as the same signal, because `timeout` and terminals send a signal twice.

Python runs signal handlers only between bytecode instructions. A watcher thread covers long calls into native code,
such as onnxruntime in this process or a torch matrix product. It ends the process if the handler has not run STEP_S
after the signal, or if the process is still running LONGEST_S after the signal. Temporary folders are removed in each
case.
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
LONGEST_S = 20.0  # longer than the 15 s timeout for closing a connection to a board that does not respond
_LOOK_S = 0.1
_WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hangup"}
_SIGNALS: dict[int, str] = {getattr(signal, name): word for name, word in _WORDS.items() if hasattr(signal, name)}
_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)
_leave = os._exit  # export/model/isolation.py replaces os._exit() while the model's code runs
_OVER = b"\0"  # no signal has this number


def run(name: str, work: Callable[[], int]) -> int:
    """Run work() and return its exit code. After a signal, print a line "NAME: interrupted" (or terminated, or hangup)
    on stderr and return 130, 143 or 129.

    A signal that is already ignored (by nohup, or in a background job of a script) stays ignored. A signal that the
    calling program handles keeps its handler. Outside of the main thread, no handler is installed.
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
                raise  # after a signal, the terminal may be closed, so writing to it may fail
        else:
            return code
    exec("")  # noqa: S102  without this, Python kills itself with SIGINT if the exception passed through an exec()
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
        """128 + the signal number, as in shells."""
        return 128 + (self.number or signal.SIGINT)

    @property
    def line(self) -> str:
        return f"{self.name}: {_SIGNALS[self.number or signal.SIGINT]}"

    def begin(self) -> None:
        """Let signals raise KeyboardInterrupt from now on. If a signal has arrived already, raise it here."""
        self.raises = True
        if self.number is not None:
            raise KeyboardInterrupt

    def finish(self) -> None:
        """Let signals raise nothing from now on: the process is about to end."""
        self.raises = False

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if self.number is None:
            self.number, self._since = number, time.monotonic()
            if self.raises:
                raise KeyboardInterrupt
        elif not self.watched and time.monotonic() - self._since > REPEAT_S:
            self.end_now(self.number)

    def watch(self, reader: int) -> None:
        """Body of the watcher thread. `reader` yields one byte per signal, from signal.set_wakeup_fd()."""
        with open(reader, "rb", buffering=0) as numbers:
            first = numbers.read(1)
            while first not in (_OVER, b"") and first[0] not in _SIGNALS:
                first = numbers.read(1)
            if first in (_OVER, b""):
                return
            start = time.monotonic()
            os.set_blocking(reader, False)
            while (more := numbers.read(1)) not in (_OVER, b""):  # None: no byte is available yet
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
    """Run the watcher thread, unless the system cannot start one or the program already uses set_wakeup_fd()."""
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
