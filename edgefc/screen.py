"""The only module that writes to stdout and stderr. Other modules call out() and err(), with one line per argument.

All text is printed as visible() returns it, because text from files, factories, devices and arguments may contain
terminal escape sequences, line breaks and characters that the terminal's encoding lacks. Within run(), a failed write
to stdout does not stop the program, so that records are still written. The failure is reported at the end.

Standard library only, from Python 3.9.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, NoReturn, TextIO

from edgefc.errors import EdgefcError, reason_of

_EXIT_CODE = 2  # if stdout could not be written
# Unicode's default-ignorable characters that Python considers printable. Most terminals show nothing for them.
_UNSEEN = frozenset(
    chr(code)
    for first, last in (
        (0x34F, 0x34F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164), (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF),
    )
    for code in range(first, last + 1)
)  # fmt: skip


def visible(text: object, encoding: str = "utf-8") -> str:
    r"""The text in one line. Characters that are not printable or not in the encoding become escapes, such as \x1b.

    Control characters (including line breaks and tabs), separators other than the space, bidirectional controls,
    zero-width characters and lone surrogates are escaped.
    """
    string = str(text)
    if string.isascii() and string.isprintable():
        return string
    return "".join(letter if _is_visible(letter, encoding) else ascii(letter)[1:-1] for letter in string)


@lru_cache(4096)
def _is_visible(letter: str, encoding: str) -> bool:
    if not letter.isprintable() or letter in _UNSEEN:
        return False
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def width(text: str) -> int:
    """The number of terminal columns of a visible text: 2 for a wide character, 0 for a combining one."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in unicodedata.normalize("NFC", text)
    )


def out(*lines: object) -> None:
    """Print lines on stdout, or an empty line if no argument is given.

    Raises:
        OSError: stdout cannot be written. Within run(), nothing is raised: run() reports the failure at the end.
    """
    if _state.failure is not None:
        return
    try:
        _write(sys.stdout, lines or ("",))
    except OSError as error:
        if not _state.running:
            raise
        _state.failure = error


def err(*lines: object) -> None:
    """Print lines on stderr. A failed write is ignored, because it cannot be reported anywhere."""
    try:
        _write(sys.stderr, lines or ("",))
    except OSError:
        _discard(sys.stderr)


def encoding() -> str:
    """The encoding of stdout."""
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def room() -> int | None:
    """The width of the terminal in columns; None if stdout is not a terminal or its width is unknown."""
    return _columns(sys.stdout)


def _columns(stream: TextIO | None) -> int | None:
    try:
        return os.get_terminal_size(stream.fileno()).columns or None if stream is not None else None
    except (OSError, ValueError, AttributeError):
        return None


def run(body: Callable[[], int]) -> int:
    """Run a program and return its exit code: that of `body`, or 2 if it is 0 and stdout could not be written.

    A closed pipe on stdout is not an error.
    """
    _open_closed()
    _state.failure, _state.running = None, True
    try:
        with _made_visible():
            return _settled(body())
    except SystemExit as end:
        end.code = _settled(end.code)
        raise
    finally:
        _state.failure, _state.running = None, False


@contextmanager
def reported(program: str) -> Iterator[None]:
    """Print an EdgefcError of the block and continue, because a more important error is reported afterwards."""
    try:
        yield
    except EdgefcError as error:
        err(f"{program}: {error}")


class Parser(argparse.ArgumentParser):
    """ArgumentParser that prints through this module, because its errors quote arguments."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.color = False  # Python 3.14 and later colour the help for any kind of output

    def error(self, message: str) -> NoReturn:
        err(*self.format_usage().rstrip("\n").split("\n"), f"{self.prog}: error: {message}")
        self.exit(2)

    def _print_message(self, message: str, file: object = None) -> None:
        if message:  # help and version
            out(*message.rstrip("\n").split("\n"))


class Stderr:
    """stderr as a stream for libraries such as tqdm. Failed writes are ignored."""

    encoding = property(lambda self: getattr(sys.stderr, "encoding", None) or "ascii")

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            if sys.stderr is not None:
                sys.stderr.write(text)

    def flush(self) -> None:
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
        except (OSError, ValueError):
            _discard(sys.stderr)

    def isatty(self) -> bool:
        return sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()

    def columns(self) -> int | None:
        return _columns(sys.stderr)


class _State:
    """Whether run() is active, and the first error of writing to stdout."""

    running = False
    failure: OSError | None = None


_state = _State()


def _write(stream: TextIO | None, lines: tuple[object, ...]) -> None:
    if stream is None or stream.closed:
        raise OSError(errno.EBADF, "it is closed")
    known = getattr(stream, "encoding", None) or "utf-8"
    stream.write("".join(f"{visible(line, known)}\n" for line in lines))
    stream.flush()


def _settled(code: int | str | None) -> int:
    """Flush stdout, report a failure of stdout, and return the exit code."""
    if isinstance(code, str):  # from sys.exit("...")
        err(code)
        code = 1
    if sys.stdout is not None:
        with suppress(ValueError):  # the model's code closed stdout
            try:
                sys.stdout.flush()  # output of print() in other code
            except OSError as error:
                _state.failure = _state.failure or error
                _discard(sys.stdout)
    failure = _state.failure
    if failure is None or isinstance(failure, BrokenPipeError):
        return code or 0
    err(f"edgefc: cannot write to stdout: {reason_of(failure)}. Redirect it to a file or device that can be written.")
    return code or _EXIT_CODE


def _discard(stream: TextIO | None) -> None:
    """Redirect a stream to os.devnull: otherwise Python flushes it at exit and reports the failure again."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        finally:
            os.close(nowhere)


def _open_closed() -> None:
    """Open closed descriptors among 0 to 2. Otherwise a file opened later would get that number, and with it the
    output that is meant for stdout or stderr."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # open() returns the lowest free number


@contextmanager
def _made_visible() -> Iterator[None]:
    """Escape what Python itself prints on stderr: warnings, and log records of libraries without a handler.

    Warnings of matplotlib are suppressed: they are about its font cache, which edgefc does not need.
    """
    warn, warnings.formatwarning = warnings.formatwarning, _warning
    pictures = logging.getLogger("matplotlib")
    level = pictures.level
    pictures.setLevel(logging.ERROR)
    last = logging.lastResort
    if last is not None:
        last.setFormatter(_Formatter())
    try:
        yield
    finally:
        warnings.formatwarning = warn
        pictures.setLevel(level)
        if last is not None:
            last.setFormatter(None)


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return visible(f"{filename}:{lineno}: {category.__name__}: {message}") + "\n"


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))
