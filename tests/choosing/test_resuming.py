"""An interrupted choice goes on where it was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgefc.choosing.budget import budget_of
from edgefc.choosing.choosing import choose
from edgefc.errors import UsageError
from tests.support.choosing_models import numbers

ROOT = Path(__file__).resolve().parents[2]


def started(folder: Path, workers: int = 0) -> "subprocess.Popen[str]":
    program = [sys.executable, "-m", "tests.support.choosing_models", str(folder), str(workers)]
    return subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ""})


@pytest.mark.slow
def test_a_choice_that_is_killed_five_times_ends_with_the_same_plan(tmp_path: Path) -> None:
    undisturbed = json.loads(started(tmp_path / "a").communicate()[0].splitlines()[-1])
    draw = random.Random(0)
    # that of several processes
    assert (
        json.loads(started(tmp_path / "c", workers=2).communicate()[0].splitlines()[-1])["plan"] == undisturbed["plan"]
    )
    kept = [0]
    for _ in range(5):
        process = started(tmp_path / "b")
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(draw.uniform(0.05, 0.3))
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0]
        assert rest == "", "it was finished before it was killed"
        kept.append(len(list((tmp_path / "b").rglob("*.json"))))
    assert kept == sorted(kept)
    assert kept[-1] > 5
    resumed = json.loads(started(tmp_path / "b").communicate()[0].splitlines()[-1])
    assert resumed["plan"] == undisturbed["plan"]
    assert resumed["loss"] == undisturbed["loss"]
    assert 0 < resumed["measured"] < undisturbed["measured"]


def test_nothing_is_measured_twice_and_another_budget_uses_the_same_folder(tmp_path: Path) -> None:
    first = choose(numbers(5), budget_of("bytes=0.2"), folder=tmp_path)
    subject = numbers(5)
    assert choose(subject, budget_of("bytes=0.2"), folder=tmp_path) == first
    assert subject.swept == []
    assert subject.measured == []
    choose(subject, budget_of("bytes=0.1"), folder=tmp_path)
    assert subject.swept == []
    assert len(subject.measured) > 0


def test_results_of_another_subject(tmp_path: Path) -> None:
    choose(numbers(3), budget_of("bytes=0.2"), folder=tmp_path)
    with pytest.raises(UsageError, match=r"other data or other settings.* Give another folder"):
        choose(numbers(3, fingerprint="other"), budget_of("bytes=0.2"), folder=tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"fingerprint": "numbers"}',
                                     b'{"fingerprint": "numbers", "result": [{"unit": 1}]}',
                                     b'{"fingerprint": "numbers", "result": 3}'])  # fmt: skip
def test_damaged_results(tmp_path: Path, content: bytes) -> None:
    choose(numbers(3), budget_of("bytes=0.2"), folder=tmp_path)
    path = min((tmp_path / "units").glob("*.json"))
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"cannot read .* Give another folder, or"):
        choose(numbers(3), budget_of("bytes=0.2"), folder=tmp_path)


def test_names_of_layers_are_names_of_files(tmp_path: Path) -> None:
    """Long names, and names that differ in one character that no file can have."""
    subject = numbers(2)
    from dataclasses import replace

    names = ["x" * 300 + "/..", "x" * 300 + "\\.."]
    renamed = dict(zip([unit.name for unit in subject.units], names, strict=True))
    subject.units = [replace(unit, name=renamed[unit.name]) for unit in subject.units]
    subject.losses = {(renamed[name], to): loss for (name, to), loss in subject.losses.items()}
    first = choose(subject, budget_of("bytes=0.2"), folder=tmp_path)
    assert len(list((tmp_path / "units").glob("*.json"))) == 2
    assert choose(subject, budget_of("bytes=0.2"), folder=tmp_path) == first


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        choose(numbers(2), budget_of("bytes=0.2"), folder=tmp_path / "file")
