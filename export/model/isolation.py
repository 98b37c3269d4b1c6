"""What code of the user's may change of the process, put back: commands go on as they were started.

with unchanged_folder():    the current folder: a model's forward may change it
with unchanged_process():   the folder, and what else a file of the user's may change when it is imported
"""

import contextlib
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
    """Within the block stdout and stderr are duplicates, which may be closed."""
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    copies = {name: _duplicate(stream) for name, stream in before.items()}
    for name, copy in copies.items():
        setattr(sys, name, copy or before[name])
    try:
        yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)
            _put_back(stream, copies[name])


def _duplicate(stream: Any) -> TextIO | None:
    """A stream to the same place; None for one without a descriptor, that of a notebook, say."""
    try:
        stream.flush()
        number = os.dup(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None
    return open(number, "w", encoding=stream.encoding, errors=stream.errors, buffering=1)


def _put_back(stream: TextIO, copy: TextIO | None) -> None:
    """Open the descriptor of `stream` again where it was closed, and close the duplicate."""
    if copy is None or copy.closed:
        return
    with contextlib.suppress(OSError):  # a disk that is full
        copy.flush()
    try:
        os.fstat(stream.fileno())
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(copy.fileno(), stream.fileno())
    with contextlib.suppress(OSError):
        copy.close()


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
