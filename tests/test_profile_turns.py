"""How profile() asks and sorts answers, with recorded timings in the place of child processes."""

from pathlib import Path
from typing import Any

import pytest

from edgefc.runtime import Model, Record, profile
from edgefc.runtime.runner import Local
from tests import onnx_models as models

TIMES_NS = {"a.onnx": 1_000, "b.onnx": 3_000, "c.onnx": 5_000, "null.onnx": 10}


class Recorded:
    """Answers each probe by the model's name, and keeps the order in which models were timed."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.natives: list[list[str]] = []

    def ask(self, probe: str, question: dict[str, Any], *, about: str) -> Any:
        if probe == "probe_check":
            return [[batch or 1] * len(question["models"]) for batch in question["batches"]]
        if probe == "probe_load":
            return {"load_ns": 7, "first_ns": 8, "used_native": None}
        if probe == "probe_memory":
            return {"missing": "not recorded"}
        names = [Path(model["path"]).name for model in question["models"]]
        self.natives.append([model.get("native", question["native"]) for model in question["models"]])
        self.orders.append("".join(name[0] for name in names))
        return {"timed": [self.timed(TIMES_NS[name]) for name in names], "timer_step_ns": 1, "other_cores": None}

    def timed(self, ns: int) -> dict[str, Any]:
        block = {"samples_ns": [ns] * 9, "runs": 9, "wall_ns": 9 * ns, "cpu_ns": 9 * ns}
        return {"warm_up": {"runs": 5, "settled": True, "run_ns": float(ns)}, "blocks": [block] * 2}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(Local, "ask", lambda _, *given, **said: recorded.ask(*given, **said))
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        models.matmul(tmp_path / f"{name}.onnx")
    return recorded


def test_every_model_is_first_in_turn(recorded: Recorded) -> None:
    """Six processes of two models are three of each order; the null model has processes of its own."""
    profile(["a.onnx", "b.onnx"])

    assert sorted(recorded.orders) == ["ab"] * 3 + ["ba"] * 3 + ["n"] * 6


def test_answers_find_their_model_whatever_the_order(recorded: Recorded) -> None:
    record = profile(["a.onnx", "b.onnx", "c.onnx"])

    assert [cell.steady.median_ns for cell in record.cells] == [1_000, 3_000, 5_000]
    assert [(r.model, r.low, r.median, r.high) for r in record.ratios] == [(1, 3, 3, 3), (2, 5, 5, 5)]
    assert record.baselines[0].steady.median_ns == 10


def test_batches_and_threads_are_swept(recorded: Recorded) -> None:
    record = profile(["a.onnx", "b.onnx"], batch=[1, 3], threads=[1, 2])

    assert [(c.threads, c.batch, c.model) for c in record.cells] == [
        (1, 1, 0), (1, 1, 1), (1, 3, 0), (1, 3, 1), (2, 1, 0), (2, 1, 1), (2, 3, 0), (2, 3, 1),
    ]  # fmt: skip
    assert [(r.threads, r.batch) for r in record.ratios] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert [b.threads for b in record.baselines] == [1, 2]


def test_memory_that_could_not_be_had_is_null_with_its_reason(recorded: Recorded) -> None:
    cell = profile("a.onnx").cells[0]

    assert (cell.memory, cell.peak_above_baseline_bytes, cell.memory_missing) == (None, None, "not recorded")


def test_progress_is_told_when_asked_for(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    profile("a.onnx", progress=False)
    silent = capsys.readouterr().err
    profile("a.onnx", progress=True)

    assert silent == ""
    assert "/21 " in capsys.readouterr().err  # 6 + 3 for the null model, 6 + 5 + 1 for the cell


def test_a_model_has_settings_of_its_own(recorded: Recorded) -> None:
    """The same file with and without kernels, in turn."""
    record = profile([Model("a.onnx", native="off"), "a.onnx"], native="on", processes=2, memory=False)

    assert recorded.natives[-2:] == [["off", "on"], ["on", "off"]]
    assert (record.config.native, record.config.model_settings) == ("on", ({"native": "off"}, {}))


def test_what_is_finished_is_told_as_it_comes(recorded: Recorded) -> None:
    kept: list[Record] = []

    last = profile("a.onnx", batch=[1, 3], keep=kept.append)

    assert [len(record.cells) for record in kept] == [1, 2]
    assert all(record.unfinished for record in kept) and last.unfinished is None
