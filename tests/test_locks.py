"""One at a time: of processes, of threads, and after a kill."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgefc import temporary
from edgefc.locks import alone

_ALONE = """
import sys
from pathlib import Path
from edgefc.locks import alone
with alone(Path(sys.argv[1]) / "held-lock"):
    print("in", flush=True)
    sys.stdin.read()
"""


def _alone(place: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", _ALONE, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "in\n"
    return process


def test_one_at_a_time_of_several_processes(tmp_path: Path) -> None:
    other = _alone(tmp_path)
    with pytest.raises(TimeoutError, match="another process"), alone(tmp_path / "held-lock", 0.1):
        pytest.fail("two are alone")
    with temporary.folder("held-", tmp_path):
        assert (tmp_path / "held-lock").is_dir()  # it is held
    other.communicate("")

    with alone(tmp_path / "held-lock"):
        pass

    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time_of_several_threads(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def count(_: int) -> None:
        for _ in range(25):
            with alone(tmp_path / "held-lock"), temporary.folder("held-", tmp_path):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0)
                inside[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))

    assert most == [1] and list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    for after in ("alone", "folder"):
        killed = _alone(tmp_path)
        killed.kill()
        killed.communicate()
        assert (tmp_path / "held-lock").is_dir()
        with alone(tmp_path / "held-lock") if after == "alone" else temporary.folder("held-", tmp_path):
            pass
        assert list(tmp_path.iterdir()) == []


def test_without_locks_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with alone(tmp_path / "lock"), alone(tmp_path / "lock"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_removed_before_it_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder removes it at its end. Who waited for that one takes the next."""
    fcntl = pytest.importorskip("fcntl")
    real, calls = fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:
            (tmp_path / "lock").rmdir()
            (tmp_path / "lock").mkdir()
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with (
        alone(tmp_path / "lock"),
        pytest.raises(TimeoutError),
        alone(tmp_path / "lock", 0.1),
    ):
        pytest.fail("two are alone")
