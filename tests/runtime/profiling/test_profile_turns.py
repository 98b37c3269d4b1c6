"""How profile() asks and sorts answers, with recorded timings in the place of child processes."""

from pathlib import Path
from typing import Any

import pytest

from edgefc.runtime import Model, Record, profile
from edgefc.runtime.probes.contracts import (
    ArrayInfo,
    Block,
    LoadAnswer,
    LoadQuestion,
    MemoryAnswer,
    MemoryQuestion,
    ModelToRun,
    Question,
    SteadyAnswer,
    SteadyQuestion,
    Timed,
    Trial,
    TrialAnswer,
    TrialQuestion,
    WarmUp,
)
from edgefc.runtime.profiling.runner import Local
from edgefc.runtime.profiling.table import show
from tests.support import onnx_models as models

TIMES_NS = {"a.onnx": 1_000, "b.onnx": 3_000, "c.onnx": 5_000, "null.onnx": 10}


class Recorded:
    """Answers each probe by the model's name, and keeps the order in which models were timed."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.natives: list[list[str]] = []
        self.inputs: dict[str, list[tuple[str, str, list[int]]]] = {}  # of models that are not fed with (batch, 8)

    def ask(self, question: Question[Any], *, about: str) -> Any:
        if isinstance(question, TrialQuestion):
            return TrialAnswer(tuple(tuple(self.fed(m, b or 1) for m in question.models) for b in question.batches))
        if isinstance(question, LoadQuestion):
            return LoadAnswer(load_ns=7, first_ns=8, start_ns=None, used_native=None)
        if isinstance(question, MemoryQuestion):
            return MemoryAnswer(None, "not recorded")
        assert isinstance(question, SteadyQuestion)
        names = [Path(model.path).name for model in question.models]
        self.natives.append([model.options.native for model in question.models])
        self.orders.append("".join(name[0] for name in names))
        return SteadyAnswer(tuple(self.timed(TIMES_NS[name]) for name in names), 1, 10**9, None)

    def fed(self, model: ModelToRun, batch: int) -> Trial:
        inputs = self.inputs.get(Path(model.path).name, [("x", "float32", [8])])
        return Trial(batch, tuple(ArrayInfo(name, dtype, (batch, *shape)) for name, dtype, shape in inputs))

    def timed(self, ns: int) -> Timed:
        block = Block(samples_ns=(ns,) * 9, runs=9, wall_ns=9 * ns, cpu_ns=9 * ns)
        return Timed(WarmUp(runs=5, settled=True, run_ns=float(ns)), (block, block))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(Local, "ask", lambda _, *args, **kwargs: recorded.ask(*args, **kwargs))
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
    third, fifth = 1 / 3, 1 / 5  # slower than the first, so below 1
    assert [(s.model, s.low, s.median, s.high) for s in record.speeds] == [(1, third, third, third), (2, *[fifth] * 3)]
    assert record.baselines[0].steady.median_ns == 10


def test_batches_and_threads_are_swept(recorded: Recorded) -> None:
    record = profile(["a.onnx", "b.onnx"], batch=[1, 3], threads=[1, 2])

    assert [(c.threads, c.batch, c.model) for c in record.cells] == [
        (1, 1, 0), (1, 1, 1), (1, 3, 0), (1, 3, 1), (2, 1, 0), (2, 1, 1), (2, 3, 0), (2, 3, 1),
    ]  # fmt: skip
    assert [(s.threads, s.batch) for s in record.speeds] == [(1, 1), (1, 3), (2, 1), (2, 3)]
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


SAME = "inputs of the first model's shapes"
INPUTS = {
    "another width": ([("x", "float32", [9])], "x float32[3, 9], and those of the first model are x float32[3, 8]"),
    "another kind": ([("x", "int64", [8])], "x int64[3, 8], and those of the first model are x float32[3, 8]"),
    "one more": ([("x", "float32", [8]), ("y", "float32", [8])], "x float32[3, 8], y float32[3, 8], and those"),
    "another name": ([("input", "float32", [8])], SAME),
    "another precision": ([("x", "float16", [8])], SAME),
}


@pytest.mark.parametrize("case", INPUTS)
def test_models_with_other_inputs_are_not_compared(
    recorded: Recorded, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, listed = INPUTS[case]
    recorded.inputs["b.onnx"] = inputs

    record = profile(["a.onnx", "b.onnx", "c.onnx"], batch=3)
    show(record)
    out = capsys.readouterr().out

    assert [speed.model for speed in record.speeds] == ([1, 2] if listed is SAME else [2])
    first, second, third = record.cells
    assert first.not_compared is None and third.not_compared is None
    if listed is SAME:
        assert second.not_compared is None and "has no speed" not in out
    else:
        assert second.not_compared is not None and listed in second.not_compared
        assert f"b.onnx, batch 3, has no speed vs first: its inputs are {listed}" in out
    assert [str(fed) for fed in second.inputs or ()] == [
        f"{name} {dtype}{[3, *shape]}" for name, dtype, shape in inputs
    ]


def test_the_column_says_its_direction(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    """b takes three times as long as a."""
    show(profile(["a.onnx", "b.onnx"]))
    out = capsys.readouterr().out

    assert "speed vs first (higher is better)" in out
    assert "0.333x [0.333, 0.333]" in out
    assert (
        "speed vs first: the time of a.onnx divided by the model's time in the same rounds, with a 95 % interval; above"
        in out
    )
