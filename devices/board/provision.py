"""provision(): install what a device lacks: wheels of numpy and onnxruntime, and the native library.

This machine downloads, builds and sends the files, so the device needs no internet, no pip and no compiler. pip on this
machine downloads wheels for the device's Python, processor and C library, and checks the hashes that the index states.
The agent checks the sha256 of each file that arrives and unpacks the wheels into ~/.cache/edgefc/lib on the device.
Every later run there uses them. Wheels are installed only if one of the two packages is missing or too old, and the
native library only if none loads.
"""

import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgefc import temporary
from edgefc.devices.agent.answers import Facts
from edgefc.devices.board.check import OLDEST, facts_of, problem_of, version
from edgefc.devices.board.client import Board
from edgefc.devices.transports.base import Transport
from edgefc.errors import DeviceError, shortened
from edgefc.progress import elapsed, transfer
from edgefc.runtime import native
from edgefc.runtime.native import build

PACKAGES = ("numpy", "onnxruntime")
_LIMIT_S = 900
_WHEELS = ("aarch64", "x86_64")  # the index has onnxruntime wheels for Linux on these processors
_OLDEST_GLIBC = 17

Say = Callable[[str], None]


@dataclass(frozen=True)
class Provisioned:
    """One sentence for each item: done lists what was installed, lacking lists what could not be installed."""

    done: tuple[str, ...]
    lacking: tuple[str, ...]


def provision(transport: Transport, *, wheels: Path | None = None, say: Say = print) -> Provisioned:
    """Install what is missing on the device, and check that it works.

    Args:
        wheels: a folder of wheels to use instead of the index, for a machine without internet.
        say: called with a sentence at each step.

    Raises:
        DeviceError: the connection is lost, the disk is full, or there are no wheels for the device.
    """
    done: list[str] = []
    added: str | None = None
    with _connected(transport) as board:
        before = facts_of(board)
        if lacks_packages(before):
            done.append(_packages(board, before, wheels, say))
        else:
            say(f"numpy {before.numpy} and onnxruntime {before.onnxruntime} are already installed.")
    with _connected(transport) as board:  # a new agent: each looks for packages only when it starts
        lacking = []
        if facts_of(board).native:
            say("the native kernels are already installed.")
        else:
            added, why = _native(board, before, say)
            done += [added] if added else []
            lacking += [why] if why else []
    say("checking that it works ...")
    with _connected(transport) as board:
        after = facts_of(board)
    for name in PACKAGES:
        if (reason := getattr(after, f"{name}_missing")) is not None:
            raise DeviceError(
                f"{name} was installed on {transport.name} but cannot be imported: {reason}. Please report this."
            )
    if added is not None and not after.native:
        lacking.append("native kernels: the library was installed but does not load, so portable bodies run.")
    return Provisioned(tuple(done), tuple(lacking))


@contextmanager
def _connected(transport: Transport) -> Iterator[Board]:
    with elapsed(f"{transport.name}: connecting"):
        board = Board(transport)
    with board:
        yield board


def lacks_packages(facts: Facts) -> bool:
    installed = {"numpy": facts.numpy, "onnxruntime": facts.onnxruntime}
    return any(each is None or problem_of(name, each) for name, each in installed.items())


def _packages(board: Board, facts: Facts, wheels: Path | None, say: Say) -> str:
    with temporary.folder("edgefc-wheels-") as folder:
        say(f"downloading wheels for Python {facts.python} on {facts.machine} ...")
        with elapsed("downloading"):
            fetch(board.name, facts, folder, wheels)
        files = {path.name: path for path in sorted(folder.glob("*.whl"))}
        total = sum(path.stat().st_size for path in files.values())
        say(f"sending {len(files)} wheels, {total / 1e6:.0f} MB ...")
        with transfer(f"{board.name}: sending") as on_bytes:
            board.install("site", files, on_bytes)
    return "packages: " + ", ".join("-".join(name.split("-")[:2]) for name in files)


def fetch(name: str, facts: Facts, folder: Path, wheels: Path | None) -> None:
    """Download wheels for the device into `folder`: the versions of this machine, or else the newest for its Python.

    Raises:
        DeviceError: there are no such wheels, or they cannot be downloaded.
    """
    kind = _tags(name, facts)
    source = ["--no-index", f"--find-links={wheels}"] if wheels is not None else []
    same = [f"{package}=={metadata.version(package)}" for package in PACKAGES]
    newest = [f"{package}>={'.'.join(map(str, OLDEST[package]))}" for package in PACKAGES]
    failure = ""
    for wanted in (same, newest):
        failure = _pip(["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
                        f"--dest={folder}", *kind, *source, *wanted])  # fmt: skip
        if not failure:
            return
    where = f"the folder {wheels}" if wheels is not None else "the package index"
    raise DeviceError(
        f"no wheels for {name} (Python {facts.python}, {facts.machine}) from {where}: {failure}. "
        "Check the connection to the index, or give a folder of wheels: --wheels FOLDER."
    )


def _tags(name: str, facts: Facts) -> list[str]:
    """pip's options for the Python, processor and C library of the device."""
    glibc = re.fullmatch(r"glibc 2\.(\d+)", facts.libc or "")
    if facts.os != "Linux" or facts.machine not in _WHEELS or glibc is None:
        raise DeviceError(
            f"{name} runs {facts.os} on {facts.machine} with {facts.libc or 'a C library other than glibc'}, but the "
            "index has onnxruntime only for Linux with glibc on aarch64 and x86_64. Install onnxruntime there by hand."
        )
    newest = min(int(glibc[1]), 99)
    if newest < _OLDEST_GLIBC:
        raise DeviceError(f"{name} has {facts.libc}, which is too old for every wheel. Use a newer system there.")
    tags = [f"manylinux_2_{minor}_{facts.machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
    numbers = version(facts.python)
    if len(numbers) < 2:
        raise DeviceError(f"{name} reports the Python version {facts.python!r}. Install Python 3.9 or later there.")
    return [
        "--implementation=cp", f"--python-version={numbers[0]}.{numbers[1]}",
        *(f"--platform={tag}" for tag in (*tags, f"manylinux2014_{facts.machine}")),
    ]  # fmt: skip


def _pip(arguments: Sequence[str]) -> str:
    """Run pip on this machine. Return "" if it succeeded, or its last error line."""
    try:
        done = subprocess.run(  # noqa: S603  a list, no shell
            [sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL,
            timeout=_LIMIT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"pip failed: {type(error).__name__}"
    if done.returncode == 0:
        return ""
    errors = [line for line in done.stderr.splitlines() if line.strip().startswith("ERROR")] or ["ERROR: pip failed"]
    return shortened(errors[-1].strip().removeprefix("ERROR:").strip().rstrip("."))


def _native(board: Board, facts: Facts, say: Say) -> tuple[str | None, str | None]:
    """What was installed, or why there is no library for the device."""
    with temporary.folder("edgefc-native-") as folder:
        try:
            library = _library(facts, folder, say)
        except build.NoLibrary as error:
            return None, f"native kernels: {error}"
        say(f"sending the native library, {library.stat().st_size / 1e3:.0f} kB ...")
        with transfer(f"{board.name}: sending") as on_bytes:
            board.install("native", {library.name: library}, on_bytes)
    return f"native library for {facts.machine}", None


def _library(facts: Facts, folder: Path, say: Say) -> Path:
    """The library for the device's processor: the one of this machine, or one compiled for the device."""
    if facts.os != "Linux":
        raise build.NoLibrary(f"they exist only for Linux, and the device runs {facts.os}.")
    mine = native.library_path()
    if facts.machine == platform.machine() and sys.platform == "linux" and mine is not None:
        return Path(mine)
    say(f"compiling native kernels for {facts.machine} ...")
    target = folder / "libedgefc.so"
    if facts.machine == platform.machine() and sys.platform == "linux":
        with elapsed("compiling"):
            return build.build(target)
    if facts.machine in build.TARGETS and not build.has_sources():
        raise build.NoLibrary("their sources are in a checkout of edgefc, but not in the installed package.")
    if facts.machine in build.TARGETS:
        with elapsed("compiling"):
            return build.build(target, target=facts.machine)
    raise build.NoLibrary(f"they cannot be compiled for {facts.machine} on this machine.")
