"""edgefc profile from end to end, on real models. No test here asserts a timing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefc.cli import main
from edgefc.runtime import Record, profile
from tests.support import onnx_models as models
from tests.support.json_schema import assert_valid

QUICK: dict[str, Any] = {"min_time_s": 0.02, "launches": 1, "processes": 1}


@pytest.mark.slow
def test_two_models_take_turns_and_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One call: the complete table on stdout, the record in its file, every cell filled."""
    names = "dense[bold].onnx", f"{'long-' * 20}.onnx"
    paths = [str(models.matmul(tmp_path / name, 256, 256)) for name in names]

    code = main(["profile", *paths, "--batch", "3", "--time", "0.02", "--json", str(tmp_path / "r.json")])

    record, out = Record.read(tmp_path / "r.json"), capsys.readouterr().out
    config = record.config
    assert code == 0
    assert_valid(tmp_path / "r.json", "profile")
    assert [(c.model, c.batch, c.threads) for c in record.cells] == [(0, 3, 1), (1, 3, 1)]
    assert [(s.model, s.batch) for s in record.speeds] == [(1, 3)]
    assert all(c.load.samples_ns for c in record.cells)
    most = config.processes * config.rounds  # fewer where other work makes launches slow
    assert all(0 < len(c.steady.rounds) <= most for c in record.cells)
    assert tuple(m.name for m in record.models) == names
    assert all(word in out for word in (*names, "speed vs first", "1 thread", "onnxruntime"))


def test_the_summary_is_that_of_the_samples(tmp_path: Path) -> None:
    record = profile(models.matmul(tmp_path / "m.onnx"), memory=False, **QUICK)
    steady = record.cells[0].steady
    samples = np.concatenate([r.samples_ns for r in steady.rounds])

    assert steady.median_ns == np.median(samples)
    assert steady.sample_count == len(samples)
    assert steady.cpu_ns_per_run == sum(r.cpu_ns for r in steady.rounds) / sum(r.runs for r in steady.rounds)


@pytest.mark.slow
def test_peak_above_the_baseline_is_one_subtraction(tmp_path: Path) -> None:
    record = profile(models.matmul(tmp_path / "m.onnx"), **QUICK)
    cell, baseline = record.cells[0], record.baselines[0]

    if cell.memory is None or baseline.peak_bytes is None:
        pytest.skip(str(cell.memory_missing))
    assert cell.peak_above_baseline_bytes == cell.memory.peak_bytes - baseline.peak_bytes


def test_inputs_given_as_arrays_bring_their_batch(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 1]] * 6)
    record = profile(models.embedding(tmp_path / "m.onnx", words="words"), inputs={"ids": ids}, memory=False, **QUICK)

    assert (record.cells[0].batch, record.config.inputs) == (6, "given")


@pytest.mark.slow
def test_inputs_from_a_file_and_the_same_model_twice(tmp_path: Path) -> None:
    path = models.two_in_two_out(tmp_path / "m.onnx")
    np.savez(tmp_path / "in.npz", a=np.ones((2, 3), "f"), b=np.ones((2, 3), "f"), c=np.array([True, False]))

    record = profile([path, path], inputs=tmp_path / "in.npz", memory=False, **QUICK)

    assert [(c.model, c.batch) for c in record.cells] == [(0, 2), (1, 2)]
    assert record.config.inputs == "in.npz"


def test_an_input_named_file_is_an_input_like_any_other(tmp_path: Path) -> None:
    """numpy.savez has a parameter of that name."""
    from onnx import helper

    port = (models.FLOAT, ["n", 2])
    node = helper.make_node("Identity", ["file"], ["y"])
    path = models.write(tmp_path / "m.onnx", [node], {"file": port}, {"y": port}, {})

    assert profile(path, inputs={"file": np.ones((5, 2), "f")}, memory=False, **QUICK).cells[0].batch == 5


def test_a_fixed_batch_needs_no_flag(tmp_path: Path) -> None:
    record = profile(models.matmul(tmp_path / "m.onnx", batch=4), memory=False, **QUICK)

    assert (record.cells[0].batch, record.config.batches) == (4, (4,))
