"""Compile the native kernels with the compiler at hand: python -m edgefc.runtime.native.build [--target aarch64]

With a target that is another machine than this one: its cross compiler, into libedgefc-aarch64.so beside this machine's
library. Processors that have no variant of their own run the portable one, which is all that is compiled for them.

Only the standard library: setup.py runs this file before edgefc is installed.
"""

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME = "libedgefc.dylib" if sys.platform == "darwin" else "libedgefc.so"
COMPILERS = ("c++", "g++", "clang++")
TARGETS = {"aarch64": ("aarch64-linux-gnu-g++",)}  # to compilers on other machines
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-pthread")
STRICT = ("-Wall", "-Wextra", "-Werror")

# Files for one kind of processor, by the end of their name; on others they are empty.
_AVX512 = ("-mavx2", "-mfma", "-mavx512f", "-mavx512bw")
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {"_avx2": ("-mavx2", "-mfma"), "_avx512": _AVX512, "_avx512vnni": (*_AVX512, "-mavx512vnni")},
    "aarch64": {"_neon": ()},
}
SOURCES = (
    "kernel", "library", "prp_op", "prp_portable", "prp_avx2", "prp_avx512", "prp_avx512vnni", "prp_neon",
    "circulant_op", "circulant", "circulant_form", "circulant_spectrum", "circulant_portable", "circulant_avx2",
    "circulant_avx512", "circulant_neon", "fft",
    "eugen_op", "eugen_portable", "eugen_avx2", "eugen_avx512", "eugen_neon",
    "tied_op", "tied_portable", "tied_avx2", "tied_avx512", "tied_neon",
    "limits", "limits_portable", "limits_avx2", "limits_avx512", "limits_neon",
)  # fmt: skip


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


def build(made: Path, *, extra: tuple[str, ...] = (), target: str | None = None) -> Path:
    """Compile and link the library to `made`, for this machine or for the target; `extra` is given to both.

    Raises:
        NoLibrary: there is no compiler, or it fails.
    """
    command, kind = compiler(target), target or machine()
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgefc-", dir=made.parent) as folder:
        objects = [str(Path(folder, f"{source}.o")) for source in SOURCES]
        _all([[*command, *FLAGS, *_flags(kind, s), *extra, "-c", str(HERE / f"{s}.cc"), "-o", o]
              for s, o in zip(SOURCES, objects, strict=True)])  # fmt: skip
        linked, shown = Path(folder, NAME), Path(folder, "exports")
        shown.write_text(EXPORTS)
        script = [] if sys.platform == "darwin" else [f"-Wl,--version-script={shown}"]
        _all([[*command, "-shared", "-pthread", *script, *extra, *objects, "-o", str(linked)]])
        linked.replace(made)  # at once: a process that has the old one open keeps it
    return made


def _flags(kind: str, source: str) -> tuple[str, ...]:
    return next((flags for end, flags in VARIANTS.get(kind, {}).items() if source.endswith(end)), ())


def _all(commands: list[list[str]]) -> None:
    """Run them, as many at a time as there are processors: a small board has memory for no more."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(_run, commands))
    for each in done:
        if each.returncode:
            raise NoLibrary(f"the compiler failed:\n{shlex.join(each.args)}\n{each.stderr.strip()}")


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
    except OSError as error:
        raise NoLibrary(f"the compiler {command[0]} cannot be started: {error.strerror}.") from None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m edgefc.runtime.native.build", allow_abbrev=False)
    parser.add_argument("--target", choices=TARGETS, help="the machine to compile for; without it, this one")
    args, extra = parser.parse_known_args()
    try:
        print(build(place(args.target), extra=tuple(extra), target=args.target))
    except NoLibrary as error:
        sys.exit(f"edgefc: no native kernels: {error}")


if __name__ == "__main__":
    main()
