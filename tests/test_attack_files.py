"""A short form of the attack on files and arrays: every so many-th case of each kind, seed 1."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Steps without a factor in common with the rounds that the cases go: of models, of targets, of changes.
STEPS = {
    "files_bytes": 19, "files_attributes": 17, "files_graph": 29, "arrays": 5, "files_weights": 7, "files_records": 11,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", STEPS)
def test_files(kind: str) -> None:
    command = [sys.executable, "-m", "tests.attack", kind, "--step", str(STEPS[kind])]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
