"""compress_file() and edgefc compress MODEL.onnx: budgets, what is written, and what is refused."""

import functools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgefc.choosing.subject import Swap, Unit
from edgefc.errors import UsageError
from edgefc.plan import Configuration, Half, Int4, Int8, LowRank
from edgefc.plan.reading import plan_of
from edgefc.rewriting import compressing, replace_file
from edgefc.rewriting.feeds import divided
from edgefc.rewriting.subject import FileSubject
from edgefc.runtime.session import Session
from tests.support.compressing_models import deep, ids, mixed, vectors
from tests.support.rewriting_models import run

FEW: tuple[Configuration, ...] = (Half(), Int8(group=32), Int4(rotate=False), LowRank(ratio=8))


compress_file = functools.partial(compressing.compress_file, threads=1)


def cosine(path: Path, other: Path, data: dict[str, Any]) -> float:
    a, b = (run(each, data)["y"].astype(np.float64) for each in (path, other))
    return float(np.mean((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)))


@pytest.mark.parametrize("part", [0.25])
def test_the_file_is_within_the_budget_and_as_good_as_every_uniform_plan(tmp_path: Path, part: float) -> None:
    path, small, data = deep(tmp_path / "m.onnx"), tmp_path / "small.onnx", vectors(100)
    report = compress_file(path, small, budget=f"bytes={part}", calibration=data, candidates=FEW)
    assert small.stat().st_size <= part * path.stat().st_size
    assert report.after.bytes == small.stat().st_size and report.after.within
    assert report.before.bytes == path.stat().st_size
    onnx.checker.check_model(str(small), full_check=True)
    compared = 0
    chosen = {"x": np.concatenate([feed["x"] for feed in divided(data, Session(path).inputs).choosing])}
    for configuration in FEW[2:]:
        compress_file(path, tmp_path / "uniform.onnx", plan=configuration, calibration=data)
        if (tmp_path / "uniform.onnx").stat().st_size <= part * path.stat().st_size:
            compared += 1
            assert cosine(path, small, chosen) >= cosine(path, tmp_path / "uniform.onnx", chosen) - 5e-6
    assert compared
    (output,) = report.outputs
    assert output.held_out and output.samples == 8
    held = {"x": data["x"][88:96]}
    assert output.cosine == pytest.approx(cosine(path, small, held), abs=1e-6)
    old, new = (run(each, held)["y"].astype(np.float64) for each in (path, small))
    assert output.error == pytest.approx(np.linalg.norm(new - old) / np.linalg.norm(old), rel=1e-3)
    json.dumps(report.record())


def test_the_report_has_the_written_plan(tmp_path: Path) -> None:
    path, small = deep(tmp_path / "m.onnx"), tmp_path / "small.onnx"
    report = compress_file(path, small, budget="bytes=0.3", calibration=vectors(100), candidates=FEW)
    replace_file(path, plan_of(str(_written(tmp_path, report.plan))), tmp_path / "again.onnx")
    sizes = [(tmp_path / name).stat().st_size for name in ("small.onnx", "again.onnx")]
    assert abs(sizes[0] - sizes[1]) < 64 * 4 * 4 + 100  # without data, no bias corrects the mean
    assert {layer.to for layer in report.layers} - {"Keep"}
    assert [step.name for step in report.steps][:2] == ["read calibration data", "measure each layer"]
    assert report.stages[0].name == "original" and report.after.name == "written"
    assert report.after.loss == pytest.approx(report.stages[-2].loss, rel=0.2, abs=1e-5)


def _written(folder: Path, plan: dict[str, Any]) -> Path:
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder / "plan.json"


def test_a_given_plan_is_compared_with_uniform_plans(tmp_path: Path) -> None:
    path, small, data = mixed(tmp_path / "m.onnx"), tmp_path / "small.onnx", ids(40)
    report = compress_file(path, small, plan={"embed": Int4(), "lstm": Int8()}, calibration=data)
    changed = {layer.name: layer.to for layer in report.layers if layer.to != "Keep"}
    assert changed == {"embed": "Int4", "W": "Int8", "R": "Int8"}
    assert "Half" in {each.name for each in report.uniform}
    with pytest.raises(UsageError, match=r"conv cannot become Int4: .* Give it Half or Int8"):
        compress_file(path, small, plan={"conv": Int4()}, calibration=data)


def test_numbers_and_a_metric(tmp_path: Path) -> None:
    path, small, data = deep(tmp_path / "m.onnx"), tmp_path / "small.onnx", vectors(40)
    pairs = (LowRank(ratio=2), LowRank(ratio=4))
    report = compress_file(path, small, budget="numbers=0.6", calibration=data, candidates=pairs)
    stored = sum(int(np.prod(each.dims)) for each in onnx.load(small).graph.initializer if len(each.dims) > 1)
    assert stored == report.after.numbers <= 0.6 * report.before.numbers
    original = run(path, data)["y"]

    def metric(session: Session) -> float:
        return -float(np.square(session.run(data)["y"] - original).mean())

    report = compress_file(path, small, budget="max-drop=0.01", calibration=data, candidates=FEW, metric=metric)
    assert report.before.metric == 0
    assert -np.square(run(small, data)["y"] - original).mean() >= -0.0101
    assert small.stat().st_size < 0.55 * path.stat().st_size


class _Stopped(Exception):
    pass


def test_a_sweep_that_was_stopped_goes_on_and_ends_with_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data, work = deep(tmp_path / "m.onnx"), vectors(100), tmp_path / "work"
    given: dict[str, Any] = {"budget": "bytes=0.2", "candidates": FEW[1:3]}
    compress_file(path, tmp_path / "whole.onnx", calibration=data, **given)
    fitted = list[str]()
    plain = FileSubject.swaps

    def stops(self: FileSubject, unit: Unit) -> list[Swap]:
        if fitted.count(unit.name) == 0 and len(fitted) % 2:
            fitted.append("stopped")
            raise _Stopped
        fitted.append(unit.name)
        return plain(self, unit)

    monkeypatch.setattr(FileSubject, "swaps", stops)
    for _ in range(8):
        try:
            compress_file(path, tmp_path / "parts.onnx", calibration=data, folder=work, **given)
        except _Stopped:
            continue
        break
    assert sorted(each for each in fitted if each != "stopped") == [f"layer{at}" for at in range(4)]
    assert "stopped" in fitted
    assert (tmp_path / "parts.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    with pytest.raises(UsageError, match="belongs to another model, other data or other settings"):
        compress_file(
            path, tmp_path / "o.onnx", budget="bytes=0.2", calibration=vectors(99), candidates=FEW, folder=work
        )


@pytest.mark.slow
def test_an_executor_gives_the_same_file(tmp_path: Path) -> None:
    path, data = deep(tmp_path / "m.onnx"), vectors(100)
    given: dict[str, Any] = {"budget": "bytes=0.2", "calibration": data, "candidates": FEW[1:3]}
    compress_file(path, tmp_path / "a.onnx", **given)
    with ThreadPoolExecutor(2) as executor:
        compress_file(path, tmp_path / "b.onnx", executor=executor, **given)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "compress got neither a plan nor a budget"),
        ({"budget": "bytes=0.2", "plan": Half()}, "compress got a plan and a budget"),
        ({"budget": "bytes=0.2", "calibration": None}, "compress measures the model on calibration data"),
        ({"budget": "max-drop=0.1"}, "needs a metric"),
        ({"budget": "bytes=0.001"}, "no plan is within bytes=0.001"),
        ({"budget": "bytes=0.2", "metric": 3}, "the metric is a int"),
        ({"budget": "bits=0.2"}, "there is no budget 'bits'"),
    ],
)
def test_what_cannot_be_done_gives_one_sentence(tmp_path: Path, given: dict[str, Any], sentence: str) -> None:
    path = deep(tmp_path / "m.onnx", 1)
    with pytest.raises(UsageError, match=sentence):
        compress_file(path, tmp_path / "small.onnx", **{"calibration": vectors(20), "candidates": FEW, **given})
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_a_uniform_plan_that_is_better_in_its_file_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses of the files are invented: the mixed plan, which is compared first, has the larger one."""
    path, data = deep(tmp_path / "m.onnx"), vectors(100)
    given: dict[str, Any] = {"budget": "bytes=0.25", "calibration": data, "candidates": FEW[1:3]}
    report = compress_file(path, tmp_path / "mixed.onnx", **given)
    assert len({layer.to for layer in report.layers}) > 1
    losses = iter([0.5, 0.25, 0.25])
    monkeypatch.setattr(FileSubject, "loss_of", lambda self, path: next(losses))
    report = compress_file(path, tmp_path / "uniform.onnx", **given)
    assert {layer.to for layer in report.layers} == {"Int4(rotate=False)"}
    assert report.best_uniform is not None and report.best_uniform.loss == report.after.loss == 0.25
    assert report.after.bytes == (tmp_path / "uniform.onnx").stat().st_size <= 0.25 * path.stat().st_size
