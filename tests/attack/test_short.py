"""A short form of the attack: a sample of the cases of each kind, with seed 1.

For the full attack, run python -m tests.attack KIND (see tests/attack/__init__.py).
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Kinds that share a process, and the step between the cases. A step has no common factor with the periods of the cases
# (of models, targets and changes, or of commands and signals).
STEPS = {
    ("files_bytes", "files_attributes"): 29,
    ("files_graph", "files_records"): 31,
    ("arrays", "files_weights"): 11,
    ("kills_export", "kills_measure", "refused", "boards"): 67,
    ("disks", "environments", "text", "inventories", "requests"): 83,
    ("sessions", "homes"): 5,
}


@pytest.mark.slow
@pytest.mark.parametrize("kinds", STEPS, ids="-".join)
def test_no_fault(kinds: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tests.attack", *kinds, "--step", str(STEPS[kinds])]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
