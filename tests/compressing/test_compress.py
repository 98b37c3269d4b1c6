"""edgefc.compress() on small torch models, against numpy and edgefc.replace()."""

import copy
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgefc
from edgefc.compressing.layers import layers_of, layers_of_plan
from edgefc.compressing.measures import loss_between
from edgefc.compressing.samples import Samples, repacked, samples_of
from edgefc.compressing.subject import TorchSubject
from edgefc.errors import UsageError
from edgefc.plan import Half, Int2, Int3, Int4, Int8, LowRank, Monarch, Tied, plan_of
from edgefc.plan.configurations import Configuration
from edgefc.plan.reading import parse_plan
from edgefc.replacing.measuring import bytes_of, outputs_of
from edgefc.replacing.statistics import MEMORY
from edgefc.replacing.surgery import Surgery
from edgefc.training.report import DistilReport, Evaluation
from tests.support import compress_models as models

FEW = [Int8(), Int4(), Int2()]


@torch.no_grad()
def loss_of(original: nn.Module, compressed: nn.Module, batches: Any) -> float:
    """1 - mean cosine of the last axis, in float64."""
    a, b = (np.concatenate([model(x).double().numpy().reshape(-1, 32) for x in batches])
            for model in (original, compressed))  # fmt: skip
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float(1 - cosines.mean())


def subject_of(model: nn.Module, candidates: Any = FEW, batches: Any = None, **options: Any) -> Iterator[TorchSubject]:
    samples = samples_of(models.batches() if batches is None else batches)
    with Surgery(model) as surgery:
        yield TorchSubject(surgery, layers_of(model, candidates), samples, memory=MEMORY, **options)


def test_samples_are_divided() -> None:
    batches = [torch.full((8, 3), float(index)) for index in range(100)]
    parts = samples_of(batches)
    kinds = [{float(each[0, 0]) for each in part} for part in (parts.fitting, parts.choosing, parts.held_out)]
    assert [len(each) for each in kinds] == [82, 8, 10]
    assert set.union(*kinds) == set(map(float, range(100)))
    assert all(max(each) - min(each) > 70 for each in kinds)  # from all of the data, which may be sorted
    assert parts.separate
    two = samples_of(batches[:2])
    assert (two.fitting, two.choosing, two.held_out) == ([batches[0]], [batches[1]], [batches[1]])
    assert not two.separate
    one = samples_of(batches[:1])
    assert one == Samples(batches[:1], batches[:1], batches[:1], separate=False)
    three = samples_of(batches[:3])
    assert three.separate


def test_samples_of_similar_lengths_are_together() -> None:
    ids = torch.arange(1, 61).reshape(6, 10)
    lengths = torch.tensor([10, 3, 7, 2, 9, 1])
    mask = (torch.arange(10) < lengths[:, None]).long()
    batches = [{"input_ids": ids[at : at + 2], "attention_mask": mask[at : at + 2]} for at in (0, 2, 4)]
    packed = repacked(batches)
    assert [tuple(each["input_ids"].shape) for each in packed] == [(2, 2), (2, 7), (2, 10)]
    rows = {tuple(row[keep.bool()].tolist()) for each in packed
            for row, keep in zip(each["input_ids"], each["attention_mask"], strict=True)}  # fmt: skip
    assert rows == {tuple(row[:length].tolist()) for row, length in zip(ids, lengths, strict=True)}
    model = models.bert()
    tokens = models.token_batches(6)
    before, after = (torch.cat([each["last_hidden_state"] for each in outputs_of(model, given)])
                     for given in (tokens, repacked(tokens)))  # fmt: skip
    assert torch.allclose(before.sort(0).values, after.sort(0).values, atol=1e-5)
    others: list[Any] = [[torch.zeros(2, 3)], [{"x": torch.zeros(2, 3)}], [(mask,)],
                         [{"attention_mask": mask, "x": torch.zeros(6, 10, 4)}]]  # fmt: skip
    for other in others:
        assert repacked(other)[0] is other[0]


def test_swap_losses_are_those_of_replace() -> None:
    model = models.mlp()
    original = copy.deepcopy(model)
    samples = samples_of(models.batches())
    for subject in subject_of(model):
        assert [unit.name for unit in subject.units] == ["0", "2"]
        assert subject.other_bytes == 0
        for unit in subject.units:
            swaps = subject.swaps(unit)
            assert [each.configuration for each in swaps] == FEW
            for swap in swaps:
                other = copy.deepcopy(original)
                report = edgefc.replace(
                    other, {unit.name: swap.configuration}, calibration=[*samples.fitting, samples.fitting[-1]]
                )
                assert swap.loss == pytest.approx(loss_of(original, other, samples.choosing[::2]), rel=1e-3, abs=1e-9)
                assert swap.bytes == report.layers[0].bytes_after
                assert swap.numbers == report.layers[0].numbers_after
        choices = {"0": Int4(), "2": Int2()}
        loss = subject.loss(choices)
        assert [type(each) for each in model] == [type(each) for each in original]  # the model is as before
    other = copy.deepcopy(original)
    edgefc.replace(other, choices, calibration=[*samples.fitting, samples.fitting[-1]])
    assert loss == pytest.approx(loss_of(original, other, samples.choosing), rel=1e-3)


def test_model_within_the_budget() -> None:
    model = models.mlp()
    original = copy.deepcopy(model)
    batches = models.batches(12)
    report = edgefc.compress(model, budget="bytes=0.2", calibration=batches, candidates=[*FEW, Half(), Int3()])
    assert bytes_of(model) == report.after.bytes <= 0.2 * bytes_of(original)
    assert report.before.bytes == bytes_of(original)
    samples = samples_of(batches)
    assert report.after.loss == pytest.approx(loss_of(original, model, samples.choosing), rel=1e-3)
    assert report.outputs[0].held_out
    assert 1 - (report.outputs[0].cosine or 0) == pytest.approx(loss_of(original, model, samples.held_out), rel=1e-3)
    assert {each.name for each in report.uniform} >= {"Half", "Int8", "Int4", "Int2"}
    rival = report.best_uniform
    assert rival is not None
    assert (report.after.loss or 0) <= (rival.loss or 0)
    assert [step.name for step in report.steps][:3] == ["run the model", "read calibration data", "measure each layer"]
    assert json.loads(json.dumps(report.record())) == report.record()


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = models.mlp()
    report = edgefc.compress(model, budget="bytes=0.25", calibration=models.batches())
    edgefc.save(model, tmp_path / "small")
    loaded = edgefc.load(tmp_path / "small", models.mlp)
    x = models.batches(1, seed=9)[0]
    assert torch.equal(loaded(x), model(x))
    other = models.mlp()
    edgefc.replace(other, parse_plan(report.plan))
    assert [type(each) for each in other] == [type(each) for each in model]


def test_attentions_are_opened_only_where_a_projection_is_replaced() -> None:
    model = models.encoder()
    before = {name: type(module) for name, module in model.named_modules()}
    x = models.batches(1, seed=9)[0]
    expected = model(x)
    with pytest.raises(UsageError, match="no plan is within"):
        edgefc.compress(model, budget="bytes=0.01", calibration=models.batches(), candidates=[Int4()])
    assert {name: type(module) for name, module in model.named_modules()} == before
    assert torch.equal(model(x), expected)
    wide = nn.Sequential(model, nn.Linear(32, 2000))  # as Half, it alone is within the budget
    report = edgefc.compress(wide, budget="bytes=0.8", calibration=models.batches(), candidates=[Half()])
    assert [each.name for each in report.layers if each.to != "Keep"] == ["1"]
    assert any("self_attn" in each.name for each in report.layers)
    assert {name: type(module) for name, module in model.named_modules()} == before


@pytest.mark.parametrize("kind", ["resnet", "speech", pytest.param("gpt2", marks=pytest.mark.slow),
                                  pytest.param("llama", marks=pytest.mark.slow)])  # fmt: skip
def test_models(kind: str, tmp_path: Path) -> None:
    """Convolutions, an LSTM, decoders: never worse than the best uniform plan, saved and loaded."""
    model = getattr(models, kind)()
    data: Any = {"resnet": models.images, "speech": models.batches}.get(kind, models.token_batches)(4)
    report = edgefc.compress(model, budget="bytes=0.4", calibration=data, candidates=[Int8(group=32), Int4(), Int2()])
    assert report.after.bytes == bytes_of(model)
    assert report.after.bytes <= 0.4 * report.before.bytes
    rival = report.best_uniform
    assert rival is not None
    assert report.after.loss is not None
    assert rival.loss is not None
    assert report.after.loss <= rival.loss
    edgefc.save(model, tmp_path / "small")
    loaded = edgefc.load(tmp_path / "small", getattr(models, kind))
    assert loss_between(outputs_of(model, data), outputs_of(loaded, data)) < 1e-12


def test_layers_that_cannot_be_replaced_are_not_units() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
            self.b.weight = self.a.weight
            self.own = nn.Parameter(torch.randn(50))

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x)))  # type: ignore[no-any-return]

    model = Shared()
    for subject in subject_of(model):
        assert [unit.name for unit in subject.units] == ["c"]
        assert subject.other_bytes == 4 * (32 * 32 + 32 + 32 + 50)


def test_small_layers_stay() -> None:
    model = nn.Sequential(nn.Linear(32, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 1))
    assert [next(iter(each.values())).target.name for each in layers_of(model, FEW)] == ["0", "2"]


def test_a_layer_whose_weight_the_model_reads_stays() -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(32, 32), nn.Linear(32, 32)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)) @ self.a.weight  # type: ignore[no-any-return]

    model = Reading()
    report = edgefc.compress(model, budget="bytes=0.7", calibration=models.batches(), candidates=FEW)
    assert [layer.to for layer in report.layers if layer.name == "a"] == ["Keep"]
    assert isinstance(model.a, nn.Linear)


def test_a_plan_is_measured_and_compared() -> None:
    model = models.mlp()
    original = copy.deepcopy(model)
    batches = models.batches(12)
    report = edgefc.compress(model, {"0": LowRank(ratio=2), "2": Int4()}, calibration=batches)
    assert [layer.to for layer in report.layers] == ["LowRank(ratio=2.0)", "Int4"]
    assert report.after.loss == pytest.approx(loss_of(original, model, samples_of(batches).choosing), rel=1e-3)
    assert {"Half", "Int8", "Int4"} <= {each.name.partition(",")[0] for each in report.uniform}
    assert report.budget is None
    assert report.before.bytes == bytes_of(original)
    assert report.after.bytes == bytes_of(model)


def test_a_plan_of_feed_forward_pairs() -> None:
    model = models.encoder()
    layers = layers_of_plan(model, plan_of({"layers.0": Tied()}), [Int8()])
    assert [[*each] for each in layers] == [[Tied()]]
    report = edgefc.compress(model, {"layers.0": Tied()}, calibration=models.batches())
    assert report.before.bytes == bytes_of(models.encoder())
    assert report.after.bytes == bytes_of(model)
    assert (report.after.loss or 0) > 0


def test_metric_decides_and_max_drop_finds_the_smallest() -> None:
    original, batches = models.mlp(), models.batches(12)
    calls = []

    def metric(model: nn.Module) -> Tensor:
        calls.append(model.training)
        return torch.tensor(100 * (1 - loss_of(original, model, batches[:2])))

    model = models.mlp().train()
    report = edgefc.compress(model, budget="max-drop=0.5", calibration=batches, metric=metric, candidates=FEW)
    assert report.before.metric == 100
    assert report.after.metric is not None
    assert report.after.metric >= 99.5
    assert report.after.metric == pytest.approx(float(metric(model)))
    assert report.after.bytes < report.before.bytes / 4
    assert calls[:-1] == [False] * (len(calls) - 1)
    assert model.training


def test_resumed_fits_are_those_of_the_first_run(tmp_path: Path) -> None:
    first = edgefc.compress(models.mlp(), budget="bytes=0.2", calibration=models.batches(), folder=tmp_path)
    for path in (tmp_path / "plans").iterdir():
        path.unlink()  # so that the plans are measured with the stored fits
    model = models.mlp()
    report = edgefc.compress(model, budget="bytes=0.2", calibration=models.batches(), folder=tmp_path)
    assert report.stages == first.stages
    assert report.uniform == first.uniform
    other = models.batches(seed=5)
    with pytest.raises(UsageError, match="another model, "):
        edgefc.compress(models.mlp(), budget="bytes=0.2", calibration=other, folder=tmp_path)


def test_damaged_fits(tmp_path: Path) -> None:
    edgefc.compress(models.mlp(), budget="bytes=0.2", calibration=models.batches(), folder=tmp_path)
    path = next((tmp_path / "units").glob("*.fits"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"the fits of \d are damaged"):
        edgefc.compress(models.mlp(), budget="bytes=0.2", calibration=models.batches(), folder=tmp_path)


def test_threads_give_the_same_model() -> None:
    alone, together = models.encoder(), models.encoder()
    options: dict[str, Any] = {"budget": "bytes=0.2", "calibration": models.batches(), "candidates": FEW}
    first = edgefc.compress(alone, **options)
    with ThreadPoolExecutor(2) as executor:
        second = edgefc.compress(together, executor=executor, **options)
    assert second.plan == first.plan
    x = models.batches(1, seed=9)[0]
    assert torch.equal(alone(x), together(x))


def test_training_follows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: dict[str, Any] = {}

    def distil(student: Any, teacher: Any, batches: Any, **options: Any) -> DistilReport:
        given.update(options, student=student, teacher=teacher, batches=batches)
        with torch.no_grad():
            student[2].bias.add_(1.0)
        at = Evaluation(0, 0.0, 0.1, None)
        return DistilReport(at, at, (at,), 1e-3, (), 1, 1.0, 1.0, (), 0, "time")

    monkeypatch.setattr("edgefc.training.distilling.distil", distil)
    model = models.mlp()
    original = copy.deepcopy(model)
    batches = models.batches(12)
    report = edgefc.compress(model, budget="bytes=0.2", calibration=batches, minutes=2, seed=3, folder=tmp_path)
    assert given["student"] is model
    assert all(map(torch.equal, given["teacher"].parameters(), original.parameters()))
    assert given["teacher"] is not model
    assert (given["minutes"], given["seed"], given["folder"]) == (2, 3, tmp_path / "training")
    samples = samples_of(batches)
    assert len(given["batches"]) == len(samples.fitting)
    assert all(map(torch.equal, given["held_out"], samples.choosing))
    assert [each.name for each in report.stages][-2:] == ["chosen", "trained"]
    assert report.after.loss == pytest.approx(loss_of(original, model, samples_of(batches).choosing), rel=1e-3)
    assert report.training is not None
    assert {"Monarch", "Circulant(block=64)"} <= {each.name for each in report.uniform}


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({}, "neither a plan nor a budget"),
        ({"plan": {"0": Int4()}, "budget": "bytes=0.5"}, "got a plan and a budget"),
        ({"budget": "bytes=0.5", "calibration": None}, "on calibration data"),
        ({"budget": "byte=0.5"}, "there is no budget 'byte'"),
        ({"budget": "latency=2ms@pi"}, "needs an .onnx file"),
        ({"budget": "max-drop=0.1"}, "needs a metric"),
        ({"budget": "bytes=0.5", "metric": 3}, "the metric is a int"),
        ({"budget": "bytes=0.5", "metric": lambda model: None}, "the metric failed: TypeError"),
        ({"budget": "bytes=0.5", "metric": lambda model: float("nan")}, "the metric returned nan"),
        ({"budget": "bytes=0.5", "metric": lambda: 1.0}, "the metric failed: TypeError"),
        ({"budget": "bytes=0.5", "minutes": -1}, "minutes is -1"),
        ({"budget": "bytes=0.5", "candidates": []}, "candidates is []"),
        ({"budget": "bytes=0.5", "candidates": ["Int4"]}, "candidates is ['Int4']"),
        ({"budget": "bytes=0.5", "candidates": [Tied()]}, "no layer of the model can be compressed"),
        ({"plan": {"0": Int4()}, "candidates": [Int4()]}, "candidates are for a budget"),
        ({"plan": {"1": Int4()}}, "matches nothing"),
        ({"budget": "bytes=0.5", "calibration": []}, "calibration has no batches"),
        ({"budget": "bytes=0.5", "calibration": [torch.zeros(3, 5)]}, "the model does not run on the data"),
    ],
)
def test_mistakes(arguments: dict[str, Any], what: str) -> None:
    model = models.mlp()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UsageError) as error:
        edgefc.compress(model, **{"calibration": models.batches(), "candidates": None, **arguments})
    assert what in str(error.value)
    assert model.state_dict().keys() == before.keys()


def test_not_a_model() -> None:
    with pytest.raises(UsageError, match="cannot compress a str"):
        edgefc.compress("model.onnx", budget="bytes=0.5")  # type: ignore[arg-type]


def test_structured_candidates_if_asked_for() -> None:
    given: list[Configuration] = [Monarch(), Int8()]
    report = edgefc.compress(models.mlp(), budget="bytes=0.5", calibration=models.batches(), candidates=given)
    assert {each.name for each in report.uniform} == {"Monarch", "Int8"}
