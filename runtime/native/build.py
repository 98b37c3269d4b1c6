"""Compile the native kernels with the compiler at hand: python -m edgefc.runtime.native.build [--target aarch64]

With a target that is another machine than this one: its cross compiler, into libedgefc-aarch64.so beside this machine's
library. Processors that have no variant of their own run the portable one, which is all that is compiled for them.

Only the standard library: setup.py runs this file before edgefc is installed.
"""

import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "libedgefc.dylib" if sys.platform == "darwin" else "libedgefc.so"
COMPILERS = ("c++", "g++", "clang++")
TARGETS = {"aarch64": ("aarch64-linux-gnu-g++",)}  # to compilers on other machines
FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-pthread")
STRICT = ("-Wall", "-Wextra", "-Werror")

# The arithmetic, by the end of a file's name; what is around it takes -O2.
_ARITHMETIC = ("_portable", "_avx2", "_avx512", "_avx512vnni", "_neon")
# Files for one kind of processor, by the end of their name; on others they are empty.
_AVX512 = ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw")
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {"_avx2": ("-mavx2", "-mfma"), "_avx512": _AVX512, "_avx512vnni": (*_AVX512, "-mavx512vnni")},
    "aarch64": {"_neon": ()},
}
# Those that take longest first, so that all processors finish at about the same time.
SOURCES = (
    "prp_avx512", "eugen_avx512", "circulant_avx512", "prp_avx2", "prp_portable", "circulant_avx2", "eugen_avx2",
    "eugen_portable", "circulant_spectrum", "tied_avx512", "tied_avx2", "circulant", "circulant_portable", "kernel",
    "prp_avx512vnni", "prp_op", "eugen_op", "tied_portable", "circulant_op", "tied_op", "fft", "library",
    "circulant_form", "limits_avx512", "limits_avx2", "limits", "limits_portable",
    "prp_neon", "circulant_neon", "eugen_neon", "tied_neon", "limits_neon",
)  # fmt: skip

_PREFIX = "edgefc-build-"  # of folders of objects
_STARTS_S = 60.0  # no build takes so long from making its folder to locking it

# What the library shows. Templates of the standard library that it showed too would keep it from ever being unloaded.
EXPORTS = "{ global: RegisterCustomOps; Edgefc*; local: *; };"


class NoLibrary(Exception):
    """Why there is none, in one sentence."""


def machine() -> str:
    """This machine's processor, by the names of TARGETS and VARIANTS where it has one."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def place(target: str | None = None) -> Path:
    """Where the library for this machine is, or for the target."""
    return HERE / (NAME if target in (None, machine()) else f"libedgefc-{target}.so")


def compiler(target: str | None = None) -> list[str]:
    """The command in CXX, or the first compiler on the path, for this machine or for the target."""
    if given := os.environ.get("CXX"):
        return shlex.split(given)
    names = COMPILERS if target is None or target == machine() else TARGETS[target]
    for name in names:
        if found := shutil.which(name):
            return [found]
    what = "C++ compiler" if names is COMPILERS else f"C++ compiler for {target}"
    raise NoLibrary(f"there is no {what}: none of {', '.join(names)} is on the path, and CXX is not set.")


def build(
    made: Path, *, extra: tuple[str, ...] = (), target: str | None = None, tell: Callable[[str], object] | None = None
) -> Path:
    """Compile and link the library to `made`, for this machine or for the target; `extra` is given to both.

    tell is called with a line of progress after each file.

    Raises:
        NoLibrary: there is no compiler, it fails, or there are no sources here.
    """
    command, kind = compiler(target), target or machine()
    if not (HERE / f"{SOURCES[0]}.cc").is_file():
        raise NoLibrary(f"their sources are not in {HERE}: a wheel has none. Build in a checkout or from the sdist.")
    made.parent.mkdir(parents=True, exist_ok=True)
    with _workplace(made.parent) as folder:
        objects = [str(Path(folder, f"{source}.o")) for source in SOURCES]
        _all({f"{s}.cc": [*command, *FLAGS, _level(s), *_flags(kind, s), *extra, "-c", str(HERE / f"{s}.cc"), "-o", o]
              for s, o in zip(SOURCES, objects, strict=True)}, tell)  # fmt: skip
        linked, shown = Path(folder, NAME), Path(folder, "exports")
        shown.write_text(EXPORTS)
        script = [] if sys.platform == "darwin" else [f"-Wl,--version-script={shown}"]
        _all({made.name: [*command, "-shared", "-pthread", *script, *extra, *objects, "-o", str(linked)]}, tell)
        linked.replace(made)  # at once: a process that has the old one open keeps it
    return made


@contextmanager
def _workplace(place: Path) -> Iterator[str]:
    """A folder for objects, locked while the build lives. One that nobody has locked is of a build that was killed."""
    for left in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STARTS_S and (lock := _locked(left)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place) as folder:
        lock = _locked(Path(folder))
        try:
            yield folder
        finally:
            if lock is not None:
                os.close(lock)


def _locked(folder: Path) -> int | None:
    """What holds its lock; None where another build has it, or there are no locks (Windows, some file systems)."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _flags(kind: str, source: str) -> tuple[str, ...]:
    return next((flags for end, flags in VARIANTS.get(kind, {}).items() if source.endswith(end)), ())


def _level(source: str) -> str:
    return "-O3" if source.endswith(_ARITHMETIC) else "-O2"


def _all(commands: dict[str, list[str]], tell: Callable[[str], object] | None) -> None:
    """Run them, as many at a time as there are processors: a small board has memory for no more."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(_timed, command): name for name, command in commands.items()}
        try:
            for count, future in enumerate(as_completed(running), start=1):
                done, seconds = future.result()
                if done.returncode:
                    raise NoLibrary(f"the compiler failed:\n{shlex.join(done.args)}\n{done.stderr.strip()}")
                if tell is not None:
                    tell(f"[{count:{len(str(len(running)))}}/{len(running)}] {running[future]}, {seconds:.1f} s")
        finally:
            pool.shutdown(cancel_futures=True)


def _timed(command: list[str]) -> "tuple[subprocess.CompletedProcess[str], float]":
    start = time.monotonic()
    return _run(command), time.monotonic() - start


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
    except OSError as error:
        raise NoLibrary(f"the compiler {command[0]} cannot be started: {error.strerror}.") from None


def main() -> int:
    from edgefc.screen import Parser, err, out  # setup.py runs this file where edgefc is not installed

    parser = Parser(
        prog="python -m edgefc.runtime.native.build", allow_abbrev=False,
        description="Compile the native kernels. Other arguments are given to the compiler. Progress is on stderr.",
    )  # fmt: skip
    parser.add_argument("--target", choices=TARGETS, help="the machine to compile for; without it, this one")
    args, extra = parser.parse_known_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # end as for Ctrl-C: the folder of the objects is removed
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        out(build(place(args.target), extra=tuple(extra), target=args.target, tell=err))
    except NoLibrary as error:
        err(*f"edgefc: no native kernels: {error}".split("\n"))
        return 1
    return 0


def show(line: str) -> None:
    """A line of progress, on stderr, for setup.py."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201, TID251


if __name__ == "__main__":
    from edgefc.screen import run

    sys.exit(run(main))
