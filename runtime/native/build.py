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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
NAME = "libedgefc.dylib" if sys.platform == "darwin" else "libedgefc.so"
COMPILERS = ("c++", "g++", "clang++")
TARGETS = {"aarch64": ("aarch64-linux-gnu-g++",)}  # to compilers on other machines
FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-pthread")
STRICT = ("-Wall", "-Wextra", "-Werror")

# Instruction sets that the kernels are compiled for, on each kind of machine, the best last, and what a processor must
# have to run them: the flags of the compiler and the library's choice at run time are both made from this table.
_AVX512 = ("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq")
CPUS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {"avx2": ("avx2", "fma"), "avx512": _AVX512, "avx512vnni": (*_AVX512, "avx512vnni")},
    "aarch64": {"neon": ()},
}
_SHOWN = {"avx512vnni": "avx512"}  # in messages and in EDGEFC_NATIVE_CPU, where that is another name

_PREFIX = "edgefc-build-"  # of folders of objects
_STARTS_S = 60.0  # no build takes so long from making its folder to locking it

# What the library shows. Templates of the standard library that it showed too would keep it from ever being unloaded.
EXPORTS = "{ global: RegisterCustomOps; Edgefc*; local: *; };"


class NoLibrary(Exception):
    """Why there is none, in one sentence."""


def machine() -> str:
    """This machine's processor, by the names of TARGETS and CPUS where it has one."""
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
    if not has_sources():
        raise NoLibrary(f"their sources are not in {HERE}: a wheel has none. Build in a checkout or from the sdist.")
    made.parent.mkdir(parents=True, exist_ok=True)
    with _workplace(made.parent) as folder:
        todo = units(Path(folder), kind)
        objects = {unit: str(Path(folder, unit.name.replace("/", "-") + ".o")) for unit in todo}
        _all({unit.name: [*command, *FLAGS, *unit.flags, f"-I{HERE}", *extra, "-c", str(unit.path), "-o", made_here]
              for unit, made_here in objects.items()}, tell)  # fmt: skip
        linked, shown = Path(folder, NAME), Path(folder, "exports")
        shown.write_text(EXPORTS)
        script = [] if sys.platform == "darwin" else [f"-Wl,--version-script={shown}"]
        _all(
            {made.name: [*command, "-shared", "-pthread", *script, *extra, *objects.values(), "-o", str(linked)]}, tell
        )
        linked.replace(made)  # at once: a process that has the old one open keeps it
    return made


# ---- what is compiled


class Unit(NamedTuple):
    """One call of the compiler."""

    name: str
    path: Path
    flags: tuple[str, ...]


def sources() -> list[Path]:
    """The files that are compiled as they are."""
    return sorted(HERE.glob("*/*.cc"))


def has_sources() -> bool:
    return (HERE / "ort" / "library.cc").is_file()


def units(folder: Path, kind: str) -> list[Unit]:
    """Everything that is compiled for a kind of machine, those that take longest first; `folder` gets generated files.

    Generated are each kernel for each instruction set, the choice among these, and the list of operators.
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
    """About how long a kernel takes to compile."""
    return sum(map(_size, lanes.parent.glob("*.h")))


def _size(path: Path) -> int:
    return path.stat().st_size


def _name(lanes: Path) -> str:
    return lanes.name.removesuffix("_lanes.h")


def _own(lanes: Path, cpu: str) -> Path:
    """Where a kernel has something special for an instruction set."""
    return lanes.with_name(f"{_name(lanes)}_{cpu}.h")


def _cpus_of(lanes: Path, cpus: Iterable[str]) -> list[str]:
    """Instruction sets that a kernel is compiled for: those with vectors in simd/, and those that it has a file for."""
    return [cpu for cpu in cpus if (HERE / "simd" / f"{cpu}.h").is_file() or _own(lanes, cpu).is_file()]


def _kernel(lanes: Path, cpu: str) -> str:
    """One kernel for one instruction set: x_lanes.h over the vectors of simd/CPU.h, or its own x_CPU.h instead."""
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
    """The variant of a kernel for each of `cpus`: its own or, where it has none, that of the one before."""
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
    """The operator of every x_op.cc."""
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
