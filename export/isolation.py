"""What code of the user's may change of the process, put back: commands go on as they were started.

with unchanged_folder():    the current folder: a model's forward may change it
with unchanged_process():   the folder, and what else a file of the user's may change when it is imported
"""

import contextlib
import io
import locale
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn, TextIO
from unittest import mock

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def unchanged_folder() -> Iterator[None]:
    """Relative paths mean after the block what they meant before it. A folder that is gone by then stays left."""
    try:
        before = os.getcwd()
    except OSError:  # it was removed under us
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.chdir(before)


@contextlib.contextmanager
def unchanged_process() -> Iterator[None]:
    """Put back after the block what the rest of the command needs.

    The folder, sys.argv, stdout and stderr (also where they were closed), filters of warnings, handlers of SIGINT and
    SIGTERM, the locale, a recursion limit that was lowered. Within the block os._exit() raises SystemExit, because
    nothing could tell otherwise that the command has not finished, and threads start as daemons, because the command
    would wait for them at its end.
    """
    with (
        unchanged_folder(), _streams(), _handlers(), warnings.catch_warnings(), exit_raises(), _daemons(),
        mock.patch.object(sys, "argv", list(sys.argv)),
    ):  # fmt: skip
        limit, place = sys.getrecursionlimit(), locale.setlocale(locale.LC_ALL)
        try:
            yield
        finally:
            sys.setrecursionlimit(max(limit, sys.getrecursionlimit()))
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_ALL, place)


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    copies = {name: _copy(stream) for name, stream in before.items()}
    try:
        yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, _reopened(stream, copies[name]))


def _copy(stream: Any) -> tuple[int, int] | None:
    """The descriptor of a stream and a duplicate of it; None for a stream that has none."""
    try:
        number = stream.fileno()
        return number, os.dup(number)
    except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
        return None


def _reopened(stream: TextIO, copy: tuple[int, int] | None) -> TextIO:
    if copy is None:
        return stream
    number, duplicate = copy
    try:
        os.fstat(number)
    except OSError:
        os.dup2(duplicate, number)
    os.close(duplicate)
    if not stream.closed:
        return stream
    return open(number, "w", encoding=stream.encoding, errors=stream.errors, buffering=1, closefd=False)


@contextlib.contextmanager
def _handlers() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where none can be set
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextlib.contextmanager
def exit_raises() -> Iterator[None]:
    """Within the block os._exit() raises SystemExit in this process; in children that it forks it ends them."""
    here, leave = os.getpid(), os._exit

    def refuse(code: int) -> NoReturn:
        if os.getpid() != here:  # a child that multiprocessing started
            leave(code)
        raise SystemExit(code)

    with mock.patch.object(os, "_exit", refuse):
        yield


@contextlib.contextmanager
def _daemons() -> Iterator[None]:
    start = threading.Thread.start

    def start_as_daemon(self: threading.Thread) -> None:
        if not self.is_alive():  # of a thread that was started already, start() says so
            self.daemon = True
        start(self)

    with mock.patch.object(threading.Thread, "start", start_as_daemon):
        yield
