"""distil() across processes: plain, DDP, FSDP, and a killed run, with two real gloo processes on this machine."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.distilling"]
    both = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    told = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told[0][-2000:] + told[1][-2000:]
