"""Compile the native kernels with the compiler at hand: python -m edgefc.runtime.native.build

Only the standard library: setup.py runs this file before edgefc is installed.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "libedgefc.dylib" if sys.platform == "darwin" else "libedgefc.so"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-pthread")
STRICT = ("-Wall", "-Wextra", "-Werror")

# Files for one kind of processor, by the end of their name; on others they are empty.
VARIANTS = {"_avx2": ("-mavx2", "-mfma"), "_avx512": ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw")}
SOURCES = (
    "kernel", "library", "prp_op", "prp_portable", "prp_avx2", "prp_avx512",
    "circulant_op", "circulant", "circulant_form", "circulant_spectrum", "circulant_portable", "circulant_avx2",
    "circulant_avx512", "fft",
    "eugen_op", "eugen_portable", "eugen_avx2", "eugen_avx512",
    "tied_op", "tied_portable", "tied_avx2", "tied_avx512",
    "limits", "limits_portable", "limits_avx2", "limits_avx512",
)  # fmt: skip


# What the library shows. Templates of the standard library that it showed too would keep it from ever being unloaded.
EXPORTS = "{ global: RegisterCustomOps; Edgefc*; local: *; };"


class NoLibrary(Exception):
    """Why there is none, in one sentence."""


def compiler() -> list[str]:
    """The command in CXX, or the first compiler on the path."""
    if given := os.environ.get("CXX"):
        return shlex.split(given)
    for name in COMPILERS:
        if found := shutil.which(name):
            return [found]
    raise NoLibrary(f"there is no C++ compiler: none of {', '.join(COMPILERS)} is on the path, and CXX is not set.")


def build(target: Path, *, extra: tuple[str, ...] = ()) -> Path:
    """Compile and link the library to `target`; `extra` is given to both.

    Raises:
        NoLibrary: there is no compiler, or it fails.
    """
    command = compiler()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgefc-", dir=target.parent) as folder:
        objects = [str(Path(folder, f"{source}.o")) for source in SOURCES]
        _all([[*command, *FLAGS, *_flags(s), *extra, "-c", str(HERE / f"{s}.cc"), "-o", o]
              for s, o in zip(SOURCES, objects, strict=True)])  # fmt: skip
        made, shown = Path(folder, NAME), Path(folder, "exports")
        shown.write_text(EXPORTS)
        script = [] if sys.platform == "darwin" else [f"-Wl,--version-script={shown}"]
        _all([[*command, "-shared", "-pthread", *script, *extra, *objects, "-o", str(made)]])
        made.replace(target)  # at once: a process that has the old one open keeps it
    return target


def _flags(source: str) -> tuple[str, ...]:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ()
    return next((flags for end, flags in VARIANTS.items() if source.endswith(end)), ())


def _all(commands: list[list[str]]) -> None:
    """Run them at the same time."""
    try:
        running = [
            subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # noqa: S603
            for c in commands
        ]
    except OSError as error:
        raise NoLibrary(f"the compiler {commands[0][0]} cannot be started: {error.strerror}.") from None
    said = [each.communicate()[1] for each in running]
    for command, each, text in zip(commands, running, said, strict=True):
        if each.returncode:
            raise NoLibrary(f"the compiler failed:\n{shlex.join(command)}\n{text.strip()}")


if __name__ == "__main__":
    try:
        print(build(HERE / NAME, extra=tuple(sys.argv[1:])))
    except NoLibrary as error:
        sys.exit(f"edgefc: no native kernels: {error}")
