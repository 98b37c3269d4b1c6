"""edgefc.compress() that is killed ends with the same model."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from pathlib import Path
import torch
import edgefc
from tests.support import compress_models as models

torch.set_num_threads(1)
model = models.bert()
batches = models.token_batches(12)
report = edgefc.compress(model, budget="bytes=0.15", calibration=batches, folder=Path(sys.argv[1]))
edgefc.save(model, Path(sys.argv[1]) / "small")
"""


def run(folder: Path, *, results: int | None = None, seconds: float = 0.0) -> None:
    """Runs the program. Kills it some seconds after it has stored this many results more."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    before = stored(folder)
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        if results is not None:
            while stored(folder) < before + results and process.poll() is None:
                time.sleep(0.01)
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
    assert process.returncode == (0 if results is None else -signal.SIGKILL)


def stored(folder: Path) -> int:
    return len(list(folder.glob("*/*.json")))


@pytest.mark.slow
def test_killed_five_times(tmp_path: Path) -> None:
    run(tmp_path / "a")
    draw = random.Random(1)
    for _ in range(5):
        run(tmp_path / "b", results=draw.randint(1, 5), seconds=draw.uniform(0, 0.2))
    assert 5 <= stored(tmp_path / "b") < stored(tmp_path / "a")
    run(tmp_path / "b")
    plans = [json.loads((tmp_path / name / "small" / "plan.json").read_text()) for name in "ab"]
    assert plans[0] == plans[1]
    weights = [(tmp_path / name / "small" / "weights.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
