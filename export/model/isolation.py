"""Undoes changes that the user's code makes to the process.

with unchanged_folder():    restores the current folder, which a model's forward may change
with unchanged_process():   restores the folder and other state that a user's file may change on import
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
    """Restores the current folder after the block, unless that folder no longer exists."""
    try:
        before = os.getcwd()
    except OSError:  # the current folder was removed
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.chdir(before)


@contextlib.contextmanager
def unchanged_process() -> Iterator[None]:
    """Restores after the block the process state that the rest of the command needs.

    This covers the folder, sys.argv, stdout and stderr (even if they were closed), warning filters, handlers of SIGINT
    and SIGTERM, the locale, and a lowered recursion limit. Within the block os._exit() raises SystemExit, so that the
    command can report that it did not finish. Threads start as daemons, so that the command does not wait for them when
    it ends.
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
    """Replaces stdout and stderr within the block by duplicates, which may be closed."""
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
    """Returns a stream to the same destination, or None if `stream` has no descriptor, as in a notebook."""
    try:
        stream.flush()
        number = os.dup(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None
    return open(number, "w", encoding=stream.encoding, errors=stream.errors, buffering=1)


def _put_back(stream: TextIO, copy: TextIO | None) -> None:
    """Reopens the descriptor of `stream` if it was closed, and closes the duplicate."""
    if copy is None or copy.closed:
        return
    with contextlib.suppress(OSError):  # the disk may be full
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
    if threading.current_thread() is not threading.main_thread():  # only the main thread can set handlers
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
    """Makes os._exit() raise SystemExit within the block. In forked children it still ends the process."""
    own_pid, original_exit = os.getpid(), os._exit

    def raise_exit(code: int) -> NoReturn:
        if os.getpid() != own_pid:  # a child that multiprocessing forked
            original_exit(code)
        raise SystemExit(code)

    with mock.patch.object(os, "_exit", raise_exit):
        yield


@contextlib.contextmanager
def _daemons() -> Iterator[None]:
    start = threading.Thread.start

    def start_as_daemon(self: threading.Thread) -> None:
        if not self.is_alive():  # for a running thread, start() raises an error
            self.daemon = True
        start(self)

    with mock.patch.object(threading.Thread, "start", start_as_daemon):
        yield
