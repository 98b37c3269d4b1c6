"""A short form of the attack on processes, disks, environments, terminals, boards and sessions, seed 1.

The full one: python -m tests.attack KIND, see tests/attack/__init__.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Steps without a factor in common with the rounds that the cases go: of commands, of signals, of models.
STEPS = {
    "kills_export": 101, "kills_measure": 67, "refused": 37, "disks": 61, "environments": 149, "text": 83,
    "inventories": 31, "requests": 37, "boards": 67, "sessions": 5, "homes": 5,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", STEPS)
def test_processes(kind: str) -> None:
    command = [sys.executable, "-m", "tests.attack", kind, "--step", str(STEPS[kind])]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
