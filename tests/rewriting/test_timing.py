"""Budgets of latency: the costs of candidates, what is measured, and what is remembered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from edgefc.choosing.costs import Costs
from edgefc.errors import UsageError
from edgefc.latency import clock as clocks
from edgefc.latency import kept
from edgefc.latency.clock import Clock, Timed
from edgefc.plan import Half, Int8, LowRank
from edgefc.rewriting import compressing
from edgefc.rewriting.compressing import compress_file
from edgefc.rewriting.feeds import divided
from edgefc.rewriting.single import Layer
from edgefc.rewriting.subject import FileSubject
from edgefc.rewriting.timing import costs_of, first_sample
from edgefc.runtime.session import Session
from tests.support.compressing_models import WORDS, deep, ids, mixed, vectors
from tests.support.rewriting_models import drawn, looped, run, two_branches

LAYER_US = {"MatMul": 10.0, "Gemm": 20.0, "Gather": 5.0}
FACTOR = {"Keep": 1.0, "Half": 1.25, "Int8": 0.5, "LowRank": 0.25, "Int4": 0.75}


class Invented:
    """A clock without a device: a layer takes a time for each vector."""

    emulated = True

    def __init__(self, device: str = "here", *, whole: float = 1000.0, wrong: float = 0.0) -> None:
        self.device, self.whole, self.wrong = device, whole, wrong
        self.asked: list[tuple[str, int, str]] = []
        self.measured: list[list[Path]] = []

    def __enter__(self) -> "Invented":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def times(self, wanted: list[Timed], ranges: Any = None) -> list[float]:
        return [self._time(dict(each.facts)) for each in wanted]

    def _time(self, facts: dict[str, Any]) -> float:
        kind = "Keep" if facts["to"] is None else facts["to"]["kind"]
        self.asked.append((facts["layer"]["op"], facts["rows"], kind))
        return facts["rows"] * LAYER_US[facts["layer"]["op"]] * FACTOR[kind]

    def measure(self, files: list[Path], inputs: Any = None, **_: Any) -> list[float]:
        self.measured.append(list(files))
        assert all(len(array) == 1 for array in inputs.values() if array.ndim)
        return [self.whole] if len(files) == 1 else [self.whole, self.whole * 0.6 + self.wrong]


def costs(path: Path, data: Any, *configurations: Any) -> tuple[FileSubject, Invented, Costs]:
    parts = divided(data, Session(path).inputs)
    given, clock = FileSubject(path, configurations, parts), Invented()
    return given, clock, costs_of(given, clock, first_sample(parts.choosing, batched=parts.batched))  # type: ignore[arg-type]


def test_costs_are_those_of_the_file_less_its_layers_plus_what_replaces_them(tmp_path: Path) -> None:
    _, clock, found = costs(mixed(tmp_path / "m.onnx"), ids(40), Half(), Int8(), LowRank())
    vectors_us = WORDS * LAYER_US["MatMul"]
    assert found.what == "microseconds" and found.whole == 1000.0
    assert found.before == {
        "embed": WORDS * 5.0, "one": vectors_us, "two": vectors_us, "three": WORDS * 20.0, "conv": 0, "W": 0, "R": 0,
    }  # fmt: skip
    assert found.of({"one": Int8(), "three": LowRank()}) == 1000.0 - vectors_us / 2 - WORDS * 20.0 * 0.75
    # a weight that is only stored in another form takes the time that it took
    assert found.of({"one": Half(), "conv": Int8(), "R": Half()}) == 1000.0
    assert found.of({"embed": Half()}) == 1000.0 + WORDS * 5.0 / 4
    assert ("MatMul", WORDS, "Half") not in clock.asked
    _, clock, found = costs(deep(tmp_path / "deep.onnx"), vectors(40), Int8())
    assert clock.asked == [("MatMul", 1, "Keep"), ("MatMul", 1, "Int8")]  # four layers of the same shape
    assert found.of({"layer0": Int8(), "layer3": Int8()}) == 1000.0 - 10.0


def test_layers_that_do_not_run_cost_nothing_and_layers_in_loops_have_no_cost(tmp_path: Path) -> None:
    path = two_branches(tmp_path / "branches.onnx", drawn(48, 64))
    feeds = [{"x": drawn(1, 48), "c": np.array(True)} for _ in range(4)]
    given, _, found = costs(path, feeds, LowRank())
    assert {unit.name: found.before[unit.name] for unit in given.units} == {"then_product": 10.0, "else_product": 0.0}
    path = looped(tmp_path / "loop.onnx", drawn(64, 64))
    given, _, found = costs(path, {"x": drawn(8, 64)}, LowRank(), Half())
    (unit,) = given.units
    assert found.before == {unit.name: 0.0} and found.after == {(unit.name, Half()): 0.0}


def test_a_plan_that_is_too_slow_in_the_file_is_followed_by_a_faster_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 us are predicted wrong: the layers of the next plan take 40 us less."""
    path, small = deep(tmp_path / "m.onnx"), tmp_path / "small.onnx"

    class Wrong(Invented):
        def measure(self, files: list[Path], inputs: Any = None, **_: Any) -> list[float]:
            self.measured.append(list(files))
            if len(files) == 1:
                return [100.0]
            halved = sum(each.endswith(".codes") for each in _names(files[1]))
            return [100.0, 100.0 - 5.0 * halved + 8.0]

    used = Wrong()
    monkeypatch.setattr(compressing, "Clock", lambda device: used)
    given: dict[str, Any] = {"calibration": vectors(40), "candidates": (Int8(group=32),)}
    report = compress_file(path, small, budget="latency=95us@here", **given)
    assert (report.latency_before, report.latency_after, report.device) == (100.0, 93.0, "here (emulated)")
    assert [layer.to for layer in report.layers].count("Int8(group=32)") == 3
    assert report.stages[-2].cost == 85.0 and report.after.cost == 93.0 and report.after.within
    assert [len(files) for files in used.measured] == [1, 2, 2]
    with pytest.raises(UsageError, match=r"no plan"):
        compress_file(path, small, budget="latency=85us@here", **given)
    report = compress_file(path, small, budget="latency=0.95@here", **given)
    assert report.after.cost == 93.0


def _names(path: Path) -> list[str]:
    return [each.name for each in onnx.load(path).graph.initializer]


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Gather"])
def test_a_model_of_one_layer_computes_what_its_replacement_does(tmp_path: Path, op: str) -> None:
    layer = Layer(op, (64, 48), turned=op == "Gemm", bias=op != "Gather")
    inputs = 48 if op == "Gemm" else 64
    feeds = {"x": np.arange(6)} if op == "Gather" else {"x": drawn(6, inputs)}
    outputs = []
    for at, to in enumerate((None, Int8(group=32))):
        ir.save(layer.model(6, to), tmp_path / f"{at}.onnx")
        outputs.append(run(tmp_path / f"{at}.onnx", feeds)["y"])
    assert outputs[0].shape == outputs[1].shape == (6, 64 if op == "Gemm" else 48)
    assert 0 < np.abs(outputs[1] - outputs[0]).max() < 0.02 * np.abs(outputs[0]).max()


@pytest.mark.slow
def test_times_are_measured_here_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(clocks, "LAYER", clocks.Effort(0.02, 1, 1))
    layer, written = Layer("MatMul", (1024, 1024)), list[Path]()

    def timed(rows: int) -> Timed:
        def write(path: Path) -> None:
            written.append(path)
            ir.save(layer.model(rows), path)

        return Timed({"rows": rows}, write)

    with Clock("here") as clock:
        first = clock.times([timed(1), timed(64)])
        assert first[1] > 2 * first[0] > 0 and len(written) == 2  # 64 times the products
        assert clock.times([timed(64), timed(1)]) == first[::-1] and len(written) == 2
        facts = json.loads(next((tmp_path / "edgefc" / "times").iterdir()).read_text())["facts"]
    assert (facts["onnxruntime"], facts["threads"], facts["device"]) == (ort.__version__, 1, "local")


def test_a_time_that_is_kept_depends_on_all_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    facts: dict[str, object] = {"device": "pi", "onnxruntime": "1.31.1", "rows": 1}
    assert kept.known(facts) is None
    kept.keep(facts, 12.5)
    assert kept.known(dict(reversed(facts.items()))) == 12.5
    for name, other in (("device", "pi2"), ("onnxruntime", "1.31.2"), ("rows", 2)):
        assert kept.known({**facts, name: other}) is None
    (path,) = (tmp_path / "edgefc" / "times").iterdir()
    for content in ('{"us": -1}', "[]", "", '{"us": NaN}', '{"us": true}', '{"us": 3, "facts": {}}'):
        path.write_text(content)
        assert kept.known(facts) is None
    kept.keep(facts, 7.0)
    assert kept.known(facts) == 7.0
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))  # a file: nothing can be kept
    kept.keep(facts, 7.0)
    assert kept.known(facts) is None


def test_a_device_that_is_not_there_gives_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = deep(tmp_path / "m.onnx", 1)
    with pytest.raises(UsageError, match="nowhere"):
        compress_file(path, tmp_path / "s.onnx", budget="latency=0.5@nowhere", calibration=vectors(20))
    assert not (tmp_path / "s.onnx").exists()
