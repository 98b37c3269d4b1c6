"""Compile the native kernels: python -m edgefc.runtime.native.build [--target aarch64]

For a target other than this machine, a cross compiler writes libedgefc-aarch64.so beside the library of this machine.
For processors without their own variant, only the portable variant is compiled.

This file uses only the standard library, because setup.py runs it before edgefc is installed.
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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
NAME = "libedgefc.dylib" if sys.platform == "darwin" else "libedgefc.so"
COMPILERS = ("c++", "g++", "clang++")
TARGETS = {"aarch64": ("aarch64-linux-gnu-g++",)}  # cross compilers on other machines
FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-pthread")
STRICT = ("-Wall", "-Wextra", "-Werror")

# For each kind of machine, the instruction sets that the kernels are compiled for, the best one last, with the features
# that a processor needs. The compiler flags and the choice of the library at run time come from this table.
_AVX512 = ("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq")
CPUS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {"avx2": ("avx2", "fma"), "avx512": _AVX512, "avx512vnni": (*_AVX512, "avx512vnni")},
    "aarch64": {"neon": ()},
}
_SHOWN = {"avx512vnni": "avx512"}  # names in messages and in EDGEFC_NATIVE_CPU, if different

_PREFIX = "edgefc-build-"  # name prefix of folders of objects
_STARTS_S = 60.0  # a build locks its folder within this time after it creates it

# The exported symbols. Exported templates of the standard library would prevent the library from being unloaded.
EXPORTS = "{ global: RegisterCustomOps; Edgefc*; local: *; };"


class NoLibrary(Exception):
    """The library cannot be built. The message is the reason in one sentence."""


def machine() -> str:
    """The processor of this machine, with the name in TARGETS and CPUS if it has one."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def place(target: str | None = None) -> Path:
    """The path of the library for this machine or for the target."""
    return HERE / (NAME if target in (None, machine()) else f"libedgefc-{target}.so")


def compiler(target: str | None = None) -> list[str]:
    """The command in CXX, or the first compiler on the path, for this machine or for the target."""
    if given := os.environ.get("CXX"):
        return shlex.split(given)
    names = COMPILERS if target is None or target == machine() else TARGETS[target]
    for name in names:
        if path := shutil.which(name):
            return [path]
    what = "C++ compiler" if names is COMPILERS else f"C++ compiler for {target}"
    raise NoLibrary(f"there is no {what}: none of {', '.join(names)} is on the path, and CXX is not set.")


def build(
    made: Path, *, extra: tuple[str, ...] = (), target: str | None = None, tell: Callable[[str], object] | None = None
) -> Path:
    """Compile and link the library to `made`, for this machine or for the target.

    Args:
        extra: further arguments of the compiler and the linker.
        tell: called with a line of progress after each file.

    Raises:
        NoLibrary: there is no compiler, the compiler fails, or the sources do not exist.
    """
    command, kind = compiler(target), target or machine()
    if not has_sources():
        raise NoLibrary(f"there are no sources in {HERE}: a wheel has none. Build in a checkout or from the sdist.")
    made.parent.mkdir(parents=True, exist_ok=True)
    with _workplace(made.parent) as folder:
        todo = units(Path(folder), kind)
        objects = {unit: str(Path(folder, unit.name.replace("/", "-") + ".o")) for unit in todo}
        _all({unit.name: [*command, *FLAGS, *unit.flags, f"-I{HERE}", *extra, "-c", str(unit.path), "-o", object_file]
              for unit, object_file in objects.items()}, tell)  # fmt: skip
        linked, shown = Path(folder, NAME), Path(folder, "exports")
        shown.write_text(EXPORTS)
        script = [] if sys.platform == "darwin" else [f"-Wl,--version-script={shown}"]
        _all(
            {made.name: [*command, "-shared", "-pthread", *script, *extra, *objects.values(), "-o", str(linked)]}, tell
        )
        linked.replace(made)  # atomic: a process that has the old library open keeps it
    return made


# ---- what is compiled


class Unit(NamedTuple):
    """One call of the compiler."""

    name: str
    path: Path
    flags: tuple[str, ...]


def sources() -> list[Path]:
    """The source files that are compiled directly. A build in this folder writes its own files beside them."""
    return sorted(path for path in HERE.glob("*/*.cc") if not path.parent.name.startswith(_PREFIX))


def has_sources() -> bool:
    return (HERE / "ort" / "library.cc").is_file()


def units(folder: Path, kind: str) -> list[Unit]:
    """The files to compile for a kind of machine, with the slowest ones first.

    Writes the generated files to `folder`: each kernel for each instruction set, the choice of the variant of each
    kernel, the list of instruction sets and the list of operators.
    """
    cpus = {"portable": (), **CPUS.get(kind, {})}
    kernels = {path: _cpus_of(path, cpus) for path in sorted(HERE.glob("*/*_lanes.h"), key=_weight, reverse=True)}
    texts = {f"{_name(lanes)}_{cpu}.cc": (_kernel(lanes, cpu), ("-O3", *(f"-m{name}" for name in cpus[cpu])))
             for cpu in reversed(cpus) for lanes, own in kernels.items() if cpu in own}  # fmt: skip
    texts |= {f"{_name(lanes)}_choice.cc": (_choice(lanes, cpus, own), ("-O2",)) for lanes, own in kernels.items()}
    texts |= {"cpus.cc": (_list_of_cpus(cpus), ("-O2",)), "operators.cc": (_operators(), ("-O2",))}
    for name, (text, _) in texts.items():
        (folder / name).write_text(f"// Written by build.py.\n{text}")
    generated = [Unit(name, folder / name, flags) for name, (_, flags) in texts.items()]
    written = [Unit(path.relative_to(HERE).as_posix(), path, ("-O2",)) for path in sorted(sources(), key=_size)[::-1]]
    return sorted(generated + written, key=lambda unit: "-O3" not in unit.flags)


def _weight(lanes: Path) -> int:
    """An estimate of the time to compile a kernel."""
    return sum(map(_size, lanes.parent.glob("*.h")))


def _size(path: Path) -> int:
    return path.stat().st_size


def _name(lanes: Path) -> str:
    return lanes.name.removesuffix("_lanes.h")


def _own(lanes: Path, cpu: str) -> Path:
    """The path of the file with special code of a kernel for an instruction set. It may not exist."""
    return lanes.with_name(f"{_name(lanes)}_{cpu}.h")


def _cpus_of(lanes: Path, cpus: Iterable[str]) -> list[str]:
    """The instruction sets that a kernel is compiled for: those with a file in simd/, and those with an own file."""
    return [cpu for cpu in cpus if (HERE / "simd" / f"{cpu}.h").is_file() or _own(lanes, cpu).is_file()]


def _kernel(lanes: Path, cpu: str) -> str:
    """The source of a kernel for an instruction set: x_lanes.h with the vectors of simd/CPU.h, or its own x_CPU.h."""
    own, name = _own(lanes, cpu), _name(lanes)
    headers, constant = ([own], "kCpu") if own.is_file() else ([HERE / "simd" / f"{cpu}.h", lanes], "kLanes")
    includes = "".join(f'#include "{header.relative_to(HERE).as_posix()}"\n' for header in headers)
    return f"""{includes}
namespace edgefc::{name} {{
extern const Variant {cpu};
const Variant {cpu} = {constant};
}}
"""


def _choice(lanes: Path, cpus: Iterable[str], own: list[str]) -> str:
    """The source of variant() of a kernel. An instruction set without a variant uses that of the previous one."""
    name, last, chosen = _name(lanes), "", []
    for cpu in cpus:
        last = cpu if cpu in own else last
        chosen.append(f"&{last}")
    return f"""#include "{lanes.with_name(f"{name}.h").relative_to(HERE).as_posix()}"
#include "simd/cpu.h"

namespace edgefc::{name} {{
extern const Variant {", ".join(own)};
const Variant& variant() {{
  static const Variant* const all[] = {{{", ".join(chosen)}}};
  return *all[cpu()];
}}
}}
"""


def _list_of_cpus(cpus: dict[str, tuple[str, ...]]) -> str:
    def runs(needed: tuple[str, ...]) -> str:
        return " && ".join(f'__builtin_cpu_supports("{name}")' for name in needed) or "true"

    rows = "".join(f'    {{"{_SHOWN.get(cpu, cpu)}", {runs(needed)}}},\n' for cpu, needed in cpus.items())
    return f"""#include "simd/cpu.h"

namespace edgefc {{
std::vector<Cpu> cpus() {{
  return {{
{rows}  }};
}}
}}
"""


def _operators() -> str:
    """The source of the list of operators: one for every x_op.cc."""
    names = [path.stem for path in sources() if path.stem.endswith("_op")]
    declared = "".join(f"const ort::CustomOp& {name}(const Options&);\n" for name in names)
    return f"""#include "ort/operators.h"

namespace edgefc {{
{declared}
std::vector<const ort::CustomOp*> operators(const Options& options) {{
  return {{{", ".join(f"&{name}(options)" for name in names)}}};
}}
}}
"""


# ---- how it is compiled


@contextmanager
def _workplace(place: Path) -> Iterator[str]:
    """A temporary folder for objects, locked during the build. Unlocked folders of killed builds are removed."""
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
    """Lock a folder. Returns the file descriptor, or None if another build has the lock or locks are not supported.

    Windows and some file systems do not support them.
    """
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


def _all(commands: dict[str, list[str]], tell: Callable[[str], object] | None) -> None:
    """Run the commands, one per processor at a time, because a small board has too little memory for more."""
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
    from edgefc.screen import Parser, err, out  # not at the top: setup.py imports this file before edgefc is installed

    parser = Parser(
        prog="python -m edgefc.runtime.native.build", allow_abbrev=False,
        description="Compile the native kernels. Other arguments are passed to the compiler. Progress goes to stderr.",
    )  # fmt: skip
    parser.add_argument("--target", choices=TARGETS, help="the machine to compile for (default: this machine)")
    args, extra = parser.parse_known_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # exit as after Ctrl-C, so that the folder of objects is removed
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    try:
        out(build(place(args.target), extra=tuple(extra), target=args.target, tell=err))
    except NoLibrary as error:
        err(*f"edgefc: no native kernels: {error}".split("\n"))
        return 1
    return 0


def show(line: str) -> None:
    """Print a line of progress on stderr, for setup.py."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201, TID251


if __name__ == "__main__":
    from edgefc.screen import run

    sys.exit(run(main))
