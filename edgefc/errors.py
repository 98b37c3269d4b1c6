"""The exceptions that edgefc raises.

EdgefcError
├── UsageError           an argument, option or file cannot be used          exit 2   (also a ValueError)
│   ├── ShapeError       a layer does not support a size
│   └── MissingExtra     an optional package is not installed                         (also an ImportError)
├── ExportError          a model cannot be exported to ONNX
├── ModelError           an .onnx file is invalid, or unsuitable for the request
│   └── UnknownOperator  an operator in it is not defined
├── CheckFailed          a check ran and failed                              exit 1
└── DeviceError          a device is unavailable, busy or unreliable         exit 3
    └── MissingPackage   the device's Python lacks a package

The first sentence of a message states what failed, with the values as given. The next one states what would work. The
wording may change. Programs should distinguish errors by class or by `code`, which is also part of the JSON of child
processes and boards.
"""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def shortened(text: object, most: int = 300) -> str:
    """Shorten a text to at most `most` characters. It is cut between words, and " ..." marks the cut.

    A first word that is longer than the limit is cut within the word.
    """
    full = str(text).strip()
    if len(full) <= most:
        return full
    head = full[: most - 4]
    if not full[most - 4].isspace():
        head = head.rsplit(maxsplit=1)[0]
    return head.rstrip(" .,;:") + " ..."


_TORCH_MEMORY = re.compile(r"can't allocate memory: you tried to allocate (\d+) bytes")


def text_of(error: BaseException) -> str:
    """The text of an exception; empty if it has no text or its __str__ fails."""
    try:
        return str(error)
    except (Exception, SystemExit):  # __str__ may be third-party code
        return ""


_TORCH_PLACE = re.compile(r"^\[enforce fail at [^\]]*\] .*?\. |^.*INTERNAL ASSERT FAILED at [^,]*, please .*?\. ")


def first_line(error: BaseException) -> str:
    """The first line of a third-party exception, shortened, without a full stop. The type if it has no text.

    A leading location in torch's sources is removed.
    """
    lines = (_TORCH_PLACE.sub("", line, count=1).strip(" .\t") for line in text_of(error).splitlines())
    return shortened(next(filter(None, lines), type(error).__name__))


def describe_error(error: BaseException) -> str:
    """A third-party exception as part of a sentence: "TYPE: first line"."""
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


def reason_of(error: BaseException) -> str:
    """The reason of a failed system call, such as "No such file or directory". For other exceptions, first_line()."""
    strerror = getattr(error, "strerror", None)
    return strerror if isinstance(strerror, str) and strerror else first_line(error)


_LIMITS = {
    errno.EMFILE: "Raise the limit of open files: ulimit -n 1024.",
    errno.ENFILE: "Close other programs: the system has too many open files.",
    errno.EAGAIN: "Raise the limit of processes (ulimit -u), or close other programs.",
    errno.ENOMEM: "Close other programs, or raise the limit of memory (ulimit -v).",
}


def at_limit(error: OSError) -> str | None:
    """How to raise the system limit that caused an error; None for other errors."""
    return _LIMITS.get(error.errno or 0)


def refused_by_system(error: BaseException) -> str | None:
    """Describe a failed memory allocation, a shared library that cannot be loaded, or another system limit.

    None for other errors. numpy names the library on one of several lines.
    """
    if isinstance(error, MemoryError):
        line = first_line(error)  # numpy gives the size; other libraries give no text, or C++ text
        reason = line if line.startswith("Unable to allocate") else "the system is out of memory"
        return f"{reason}. {_LIMITS[errno.ENOMEM]}"
    tried = _TORCH_MEMORY.search(text_of(error)) if isinstance(error, RuntimeError) else None
    if tried is not None:  # of torch.empty() and its relatives
        return f"Unable to allocate {int(tried[1]):,} bytes. {_LIMITS[errno.ENOMEM]}"
    if isinstance(error, OSError) and at_limit(error):
        return f"{reason_of(error)}. {at_limit(error)}"
    if isinstance(error, SystemError) and _has_memory_limit():  # a library did not check an allocation
        return f"a library failed: {describe_error(error)}. This shell limits the memory: raise the limit (ulimit -v)."
    cause = next((line for line in text_of(error).splitlines() if "shared object" in line), None)
    if isinstance(error, ImportError) and cause is not None:
        remedy = "Raise the limit of memory (ulimit -v), if one is set, or install the package again."
        return f"a library cannot be loaded: {cause.rpartition('Original error was:')[2].strip(' .')}. {remedy}"
    return None


def _has_memory_limit() -> bool:
    try:
        import resource
    except ImportError:  # Windows
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


class EdgefcError(Exception):
    """Base class; the command line prints these without a traceback.

    Attributes:
        code      names the class in JSON; see of_code()
        subject   the name of what is missing or unknown, such as a package, or None
        device    the name of the device in the message, or None
    """

    exit_code = 2
    code = "error"

    def __init__(self, text: object = "", *, subject: str | None = None, device: str | None = None) -> None:
        super().__init__(text)
        self.subject, self.device = subject, device

    def reworded(self, text: str) -> EdgefcError:
        """The same error with another text."""
        return type(self)(text, subject=self.subject, device=self.device)


class UsageError(EdgefcError, ValueError):
    """An argument, option or file that cannot be used."""

    code = "usage"


class ShapeError(UsageError):
    """A size that the layer does not support."""

    code = "shape"


class MissingExtra(UsageError, ImportError):
    """An optional package that is not installed."""

    code = "missing-extra"


class ExportError(EdgefcError):
    """A model that cannot be exported to ONNX."""

    code = "export"


class ModelError(EdgefcError):
    """An .onnx file that is invalid, or unsuitable for the request."""

    code = "model"


class UnknownOperator(ModelError):
    """An .onnx file with an operator that neither onnxruntime, nor a library, nor the file defines."""

    code = "unknown-operator"


class CheckFailed(EdgefcError):
    """A check that ran and failed."""

    exit_code = 1
    code = "check-failed"


class DeviceError(EdgefcError):
    """A device that is unavailable, busy or unreliable."""

    exit_code = 3
    code = "device"


class MissingPackage(DeviceError):
    """The Python of a device has no package of the name `subject`."""

    code = "missing-package"


_CODES: dict[str, type[EdgefcError]] = {
    kind.code: kind
    for kind in (
        EdgefcError, UsageError, ShapeError, MissingExtra, ExportError, ModelError, UnknownOperator, CheckFailed,
        DeviceError, MissingPackage,
    )
}  # fmt: skip


def of_code(code: str) -> type[EdgefcError] | None:
    """The class with this code, or None if this version of edgefc does not know the code."""
    return _CODES.get(code)


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Convert a ModuleNotFoundError within the block into MissingExtra, with the command that installs the package."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "edgefc"):
            raise
        raise MissingExtra(
            f"{purpose} needs the package {missing!r}, which is not installed. "
            f"Install it with: pip install 'edgefc[{extra}]'"
        ) from None


def renamed(old: str, given: T | None, new: str, value: T) -> T:
    """The value of a renamed argument: `given` (passed under the old name, with a FutureWarning), or else `value`."""
    if given is None:
        return value
    message = f"{old}= is now called {new}=. The next release removes the old name."
    warnings.warn(message, FutureWarning, stacklevel=3)
    return given


def superseded(old: str, new: str, *, stacklevel: int) -> None:
    """Warn about a deprecated form of a call. `stacklevel` selects the reported caller, as in the module warnings."""
    warnings.warn(f"{old} is now {new}. The next release removes the old form.", FutureWarning, stacklevel=stacklevel)
