"""The tests that load the native kernels, once for each instruction set: python -m tests.support.variants SUMMARY

The everyday tests take the best one that the processor has, and the tests of each kernel take them all. Here everything
that loads the library runs with each of the others (EDGEFC_NATIVE_CPU). SUMMARY is a file for one line: which
instruction sets were tested, which were not, and why. The exit code is not 0 where a test failed.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgefc.runtime import native
from edgefc.runtime.probes.machine import environment
from tests.support import userland
from tests.support.native_fuzz import VARIANTS, runnable

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    "runtime/native/test_*.py", "runtime/probes/test_*.py", "runtime/profiling/test_*.py", "runtime/test_[eiso]*.py",
    "commands/test_bench*.py", "devices/test_agent.py", "test_readme.py",
)  # fmt: skip
TESTS = (  # of files whose other tests run no kernel
    "export/test_attributes.py::test_right_attributes_compute",
    "runtime/test_messages.py::test_what_a_kernel_says_at_load_is_shown",
)


def main() -> int:
    place, library = Path(sys.argv[1]), native.library_path()
    if library is None:
        place.write_text("instruction sets tested: none; NOT TESTED: all (there are no native kernels here)\n")
        return 0
    here = runnable(library)
    files = sorted(str(path) for pattern in FILES for path in (ROOT / "tests").glob(pattern))
    files += [str(ROOT / "tests" / test) for test in TESTS]
    failed = [name for name in here[:-1] if _tests(name, files)]
    features = environment()["features"] or ()
    place.write_text(summary(here, features, userland.missing()) + "\n")
    if failed:
        print(f"failed: {', '.join(failed)}")
    return bool(failed)


def _tests(variant: str, files: list[str]) -> int:
    print(f"EDGEFC_NATIVE_CPU={variant}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", *files]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "EDGEFC_NATIVE_CPU": variant}, check=False).returncode


def summary(here: Sequence[str], features: Sequence[str], no_arm64: str | None) -> str:
    """`here` are the variants that run on this processor; no_arm64 says why none is emulated, where that is so."""
    tested, reasons = list(here), []
    wanted = [name for name in VARIANTS if name not in here and name != "neon"] if "neon" not in here else []
    if "avx512vnni" in features:
        tested.append("avx512vnni")
    elif "neon" not in here:
        wanted.append("avx512vnni")
    if wanted:
        reasons.append(f"{', '.join(wanted)} (not of this processor)")
    if "neon" not in here:
        if no_arm64 is None:
            tested.append("neon (emulated)")
        else:
            reasons.append(f"neon ({no_arm64.rstrip('.')})")
    return f"instruction sets tested: {', '.join(tested)}; NOT TESTED: {'; '.join(reasons) or 'none'}"


if __name__ == "__main__":
    sys.exit(main())
