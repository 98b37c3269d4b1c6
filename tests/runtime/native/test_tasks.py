"""Tasks of a kernel that run out of memory in a thread of onnxruntime."""

import shutil
import subprocess
from pathlib import Path

import pytest

from edgefc.runtime.native import build

SUPPORT = Path(__file__).resolve().parents[2] / "support"


def test_what_a_task_throws_reaches_the_run(tmp_path: Path) -> None:
    """And goes no further: a C function that throws would end the process."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("NOT TESTED: there is no C++ compiler")
    program = tmp_path / "tasks"
    sources = (SUPPORT / "native_tasks.cc", build.HERE / "ort" / "kernel.cc")

    subprocess.run(
        [compiler, *build.FLAGS, *build.STRICT, "-O0", f"-I{build.HERE}", *sources, "-o", program], check=True
    )

    assert subprocess.run([program], timeout=60, check=False).returncode == 0
