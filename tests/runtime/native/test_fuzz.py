"""Hostile nodes for the native library: in onnxruntime against the portable bodies, and by itself under sanitizers.

EDGEFC_FUZZ_SECONDS makes each of them longer, EDGEFC_FUZZ_SEED takes other cases.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgefc.runtime.native import build
from tests.support import native_models

ROOT = Path(__file__).resolve().parents[3]
SECONDS = os.environ.get("EDGEFC_FUZZ_SECONDS")
SEED = os.environ.get("EDGEFC_FUZZ_SEED", "1")
ENVIRONMENT = {
    "ASAN_OPTIONS": "allocator_may_return_null=1:max_allocation_size_mb=512:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


def bounded(command: list[str], folder: Path, seconds: float) -> str:
    """What the command prints; where it fails or dies, the case that it was at."""
    log = folder / "case"
    environment = {**os.environ, **ENVIRONMENT, "EDGEFC_FUZZ_LOG": str(log)}
    environment.pop("EDGEFC_NATIVE_CPU", None)
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds * 4 + 300, check=False
    )
    case = log.read_text(errors="replace") if log.is_file() else "before the first case"
    assert done.returncode == 0, f"exit {done.returncode} at {case}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


@pytest.mark.slow
def test_in_onnxruntime(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    library, seconds = native_models.library(tmp_path_factory), SECONDS or "25"
    given = ["--library", library, "--seconds", seconds, "--seed", SEED]

    said = bounded([sys.executable, "-m", "tests.support.native_fuzz", *given], tmp_path, float(seconds))

    assert int(said.split()[0]) > 20


def test_one_case(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """So that the everyday tests see the fuzzer itself break."""
    given = ["--library", native_models.library(tmp_path_factory), "--seed", "3", "--case", "2"]

    said = bounded([sys.executable, "-m", "tests.support.native_fuzz", *given], tmp_path, 60)

    assert said.startswith("case 2 of seed 3 on portable")


# ---- under sanitizers


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def compile_it(cxx: str, library: tuple[str, ...], host: tuple[str, ...]) -> str:
        """tests/support/native_fuzz.cc with a library of its own."""
        if shutil.which(cxx) is None:
            pytest.skip(f"NOTHING IS RUN UNDER THESE SANITIZERS: there is no {cxx}")
        monkeypatch.setenv("CXX", cxx)
        common = ("-O1", "-g1", "-fno-sanitize-recover=all", *build.STRICT)
        made = build.build(tmp_path / build.NAME, extra=(*common, *library))
        sources = [str(ROOT / "tests/support/native_fuzz.cc"), str(made), f"-I{build.HERE}", f"-Wl,-rpath,{tmp_path}"]
        program = str(tmp_path / "native_fuzz")
        subprocess.run([cxx, *build.FLAGS, *common, *host, *sources, "-o", program], check=True)
        return program

    return compile_it


@pytest.mark.slow
def test_memory_and_undefined_behaviour(tmp_path: Path, compiled: Callable[..., str]) -> None:
    """libFuzzer looks for hostile nodes that reach what none has reached yet; a gigabyte is all that they may use."""
    checks, seconds = "address,undefined", SECONDS or "15"
    program = compiled(
        "clang++", (f"-fsanitize=fuzzer-no-link,{checks}",), (f"-fsanitize=fuzzer,{checks}", "-DEDGEFC_LIBFUZZER")
    )
    bounds = [f"-max_total_time={seconds}", f"-seed={SEED}", "-max_len=64", "-len_control=0", "-rss_limit_mb=2048"]

    said = bounded(
        [program, *bounds, "-print_final_stats=1", f"-artifact_prefix={tmp_path}/"], tmp_path, float(seconds)
    )

    assert int(re.findall(r"number_of_executed_units: (\d+)", said)[0]) > 100


@pytest.mark.slow
def test_races(tmp_path: Path, compiled: Callable[..., str]) -> None:
    """Several runs of one kernel at the same time, each in two threads."""
    program, seconds = compiled("g++", ("-fsanitize=thread",), ("-fsanitize=thread",)), SECONDS or "8"

    said = bounded([program, "threads", seconds, SEED], tmp_path, float(seconds))

    assert int(said.split()[0]) > 20
