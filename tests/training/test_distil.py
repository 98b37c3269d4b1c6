"""distil() on small models."""

import copy
import math
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import edgefc
from edgefc.errors import UsageError
from edgefc.training import checkpoint, loop
from tests.support import compress_models as models


def pair(plan: Any = None) -> tuple[nn.Module, nn.Module]:
    """A student and its teacher."""
    torch.set_num_threads(1)
    teacher = models.mlp()
    student = copy.deepcopy(teacher)
    edgefc.replace(student, {"*": plan or edgefc.plan.LowRank(ratio=4)}, calibration=models.batches())
    return student, teacher


def loss(student: nn.Module, teacher: nn.Module, batches: list[Tensor]) -> float:
    """1 - mean cosine, in float64."""
    with torch.no_grad():
        old, new = (torch.cat([model(each) for each in batches]).double() for model in (teacher, student))
    products = (old * new).sum(-1) / (old.norm(dim=-1) * new.norm(dim=-1))
    return 1 - float(products.mean())


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(each, b[name]) for name, each in a.items())


def test_a_low_rank_gets_better() -> None:
    student, teacher = pair()
    batches, held = models.batches(8), models.batches(3, seed=5)
    before = loss(student, teacher, held)
    report = edgefc.distil(student, teacher, batches, steps=60, lr=3e-3, held_out=held)
    after = loss(student, teacher, held)
    assert after < 0.9 * before
    assert report.before.loss == pytest.approx(before, rel=1e-4)
    assert report.after.loss == pytest.approx(after, rel=1e-4)
    assert (report.matched, report.quantised, report.stopped, report.steps) == (("0",), 0, "steps", 60)


@pytest.mark.parametrize("plan", [edgefc.plan.Int2(rank=2), edgefc.plan.Int3(), edgefc.plan.LowRank(storage="int8")])
def test_stored_layers_hold_what_was_evaluated(plan: Any) -> None:
    student, teacher = pair(plan)
    held = models.batches(3, seed=5)
    sizes = {name: each.shape for name, each in student.state_dict().items()}
    report = edgefc.distil(student, teacher, models.batches(8), steps=40, lr=1e-3, held_out=held)
    assert report.quantised > 0 and report.after.step > 0
    assert report.after.loss == pytest.approx(loss(student, teacher, held), abs=1e-6)
    assert {name: each.shape for name, each in student.state_dict().items()} == sizes


def test_two_learning_rates_are_tried_and_the_better_is_used() -> None:
    student, teacher = pair()
    report = edgefc.distil(student, teacher, models.batches(8), steps=100)
    assert [rate for rate, _ in report.tried] == [1e-3, 3e-4]
    best = min(report.tried, key=lambda each: each[1].loss or 0.0)
    assert report.lr == best[0]
    assert [each.step for _, each in report.tried] == [10, 20]


def test_never_worse_than_the_start() -> None:
    student, teacher = pair()
    start = values(student)
    report = edgefc.distil(student, teacher, models.batches(4), steps=20, lr=1e4)
    assert same(values(student), start)
    assert report.after == report.before
    assert min(each.loss or 0.0 for each in report.evaluations[1:]) > (report.before.loss or 0.0)


def test_the_metric_decides() -> None:
    """This one likes nothing but the start."""
    student, teacher = pair()
    start = values(student)
    report = edgefc.distil(
        student, teacher, models.batches(4), steps=20, lr=1e-3, metric=lambda model: float(same(values(model), start))
    )
    assert same(values(student), start)
    assert (report.before.metric, report.after.metric, report.evaluations[-1].metric) == (1.0, 1.0, 0.0)


def test_time_is_the_budget() -> None:
    student, teacher = pair()
    report = edgefc.distil(student, teacher, models.batches(4), minutes=0.01, lr=1e-3)
    assert report.stopped in ("time", "early") and report.steps > 0


def test_training_stops_early_without_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the best state, the start, with lower and lower rates."""
    rates: list[float] = []
    step = loop.Adam.step
    monkeypatch.setattr(loop.Adam, "step", lambda *given: (rates.append(given[-1]), step(*given)))
    student, teacher = pair()
    report = edgefc.distil(student, teacher, models.batches(4), steps=100, lr=1e-3, metric=lambda model: 0.0)
    assert (report.stopped, report.steps, report.after.step) == ("early", len(rates), 0)
    assert report.steps < 100
    assert sum(before > 2.5 * after for before, after in pairwise(rates)) == 2


def test_padding_is_left_out() -> None:
    """Where the teacher is changed only at positions that are padding, nothing is to be learned."""

    class Model(nn.Module):
        def __init__(self, padded: float) -> None:
            super().__init__()
            self.padded, self.linear = padded, nn.Linear(8, 8)

        def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
            return self.linear(x) + self.padded * (1 - attention_mask[..., None])

    torch.manual_seed(0)
    teacher, student = Model(5.0), Model(0.0)
    student.load_state_dict(teacher.state_dict())
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    batches = [{"x": torch.randn(2, 4, 8), "attention_mask": mask} for _ in range(4)]
    report = edgefc.distil(student, teacher, batches, steps=3, lr=1e-2)
    assert report.before.loss == pytest.approx(0.0, abs=1e-6)


def test_accumulated_batches_are_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of a step is the mean over its batches. Against autograd on the sum of both losses."""
    student, teacher = pair()
    batches = models.batches(2)
    twin = copy.deepcopy(student)
    parts = []
    for x in batches:
        new, old = twin(x), teacher(x).detach()
        hidden, target = twin[0](x), teacher[0](x).detach()
        parts += [(b - a).square().sum() / a.square().sum() + 1 - torch.cosine_similarity(b, a, -1).mean()
                  for a, b in ((old, new),)]  # fmt: skip
        parts += [0.5 * ((b - a).square().sum() / a.square().sum() + 1 - torch.cosine_similarity(b, a, -1).mean())
                  for a, b in ((target, hidden),)]  # fmt: skip
    torch.autograd.backward(sum(parts) / 2)
    seen: list[list[Tensor | None]] = []
    monkeypatch.setattr(loop.Adam, "step", lambda self, values, gradients, rate: seen.append(gradients))
    monkeypatch.setattr("edgefc.training.student.LARGEST", 1e9)
    edgefc.distil(student, teacher, batches, steps=1, lr=1e-3, accumulate=2, held_out=batches)
    for own, (name, parameter) in zip(seen[0], twin.named_parameters(), strict=True):
        assert own is not None and parameter.grad is not None, name
        torch.testing.assert_close(own, parameter.grad, atol=1e-7, rtol=1e-4)


def test_amp() -> None:
    student, teacher = pair(edgefc.plan.Int2())
    report = edgefc.distil(student, teacher, models.batches(4), steps=20, lr=1e-3, amp=True)
    assert report.steps == 20 and report.after.loss is not None and math.isfinite(report.after.loss)


def dropped(teacher: nn.Module, after: int) -> Callable[[nn.Module], float]:
    """A metric that ends the training at an evaluation."""
    calls = count(1)

    def metric(model: nn.Module) -> float:
        if next(calls) == after:
            raise KeyboardInterrupt
        return -loss(model, teacher, models.batches(2, seed=7))

    return metric


@pytest.mark.parametrize("killed", [3, pytest.param(6, marks=pytest.mark.slow), 9])
def test_an_interrupted_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int) -> None:
    """To the same weights as one that was not interrupted, in trials and after them, with stored layers."""
    calls = count()
    monkeypatch.setattr(checkpoint.Store, "is_due", lambda store: next(calls) % 7 == 0)
    plan, batches = {"0": edgefc.plan.Int2(), "2": edgefc.plan.LowRank(ratio=4)}, models.batches(5)

    def run(folder: Path, after: int) -> tuple[nn.Module, Any]:
        torch.set_num_threads(1)
        teacher = models.mlp()
        student = copy.deepcopy(teacher)
        edgefc.replace(student, plan, calibration=batches)
        return student, edgefc.distil(
            student, teacher, batches, steps=100, folder=folder, metric=dropped(teacher, after)
        )

    whole, report = run(tmp_path / "whole", 0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "folder", killed)
    student, resumed = run(tmp_path / "folder", 0)
    assert same(values(student), values(whole))
    assert [each.step for each in resumed.evaluations] == [each.step for each in report.evaluations]
    again, _ = run(tmp_path / "folder", 0)  # it is done, and only its result is read
    assert same(values(again), values(whole))


@pytest.mark.parametrize("change", ["seed", "data", "student", "teacher"])
def test_the_state_of_another_training_is_refused(tmp_path: Path, change: str) -> None:
    student, teacher = pair()
    edgefc.distil(copy.deepcopy(student), teacher, models.batches(4), steps=2, lr=1e-3, folder=tmp_path)
    batches = models.batches(4, seed=2 if change == "data" else 1)
    for name, model in (("student", student), ("teacher", teacher)):
        if name == change:
            with torch.no_grad():
                next(model.parameters()).add_(1)
    with pytest.raises(UsageError, match="the state of a training with another student, teacher, data or settings"):
        edgefc.distil(student, teacher, batches, steps=2, lr=1e-3, folder=tmp_path, seed=int(change == "seed"))


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    student, teacher = pair()
    file = tmp_path / "rank-0.safetensors"
    file.write_bytes(b"\x80\x04 not a safetensors file")
    with pytest.raises(UsageError, match=r"cannot read .*rank-0\.safetensors: .* Give another folder, or remove"):
        edgefc.distil(student, teacher, models.batches(4), steps=2, lr=1e-3, folder=tmp_path)
    file.unlink()
    edgefc.distil(student, teacher, models.batches(4), steps=2, lr=1e-3, folder=tmp_path)
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        kept = opened.metadata()
    for damaged, metadata in ((tensors, None), ({"now.0": tensors["now.0"]}, kept)):
        save_file(damaged, file, metadata)
        with pytest.raises(UsageError, match=r"cannot read .*rank-0\.safetensors"):
            edgefc.distil(pair()[0], teacher, models.batches(4), steps=2, lr=1e-3, folder=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "distil() needs minutes or steps, got minutes=None and steps=None. Pass one."),
        ({"minutes": 1, "steps": 1}, "distil() needs minutes or steps, got minutes=1 and steps=1. Pass one."),
        ({"minutes": -1}, "minutes is -1. Give a number above 0."),
        ({"minutes": math.nan}, "minutes is nan. Give a number above 0."),
        ({"steps": 1.5}, "steps is 1.5. Give an integer from 1."),
        ({"steps": True}, "steps is True. Give an integer from 1."),
        ({"steps": 1, "lr": 0}, "lr is 0. Give a number above 0."),
        ({"steps": 1, "accumulate": 0}, "accumulate is 0. Give an integer from 1."),
        ({"steps": 1, "metric": "f1"}, "metric is 'f1'. Give a function of the model that returns a number."),
        ({"steps": 1, "metric": lambda model: "good"}, "metric returned 'good'. Return a number"),
        ({"steps": 1, "batches": []}, "batches has no batches. Give a list of batches"),
        ({"steps": 1, "batches": torch.zeros(3, 32)}, "batches is one Tensor. Give a list of batches"),
        ({"steps": 1, "batches": 3}, "batches is a int, which is not iterable."),
        ({"steps": 1, "batches": [torch.zeros(3, 5)]}, "the model does not run on the data"),
        ({"steps": 1, "batches": list}, "batches is not a list, so that no batch of it can be kept apart"),
        ({"steps": 1, "batches": list, "held_out": [torch.zeros(2, 32)]}, "batches has no batches in epoch 1"),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    student, teacher = pair()
    start = values(student)
    batches = arguments.pop("batches", models.batches(3))
    with pytest.raises(UsageError) as raised:
        edgefc.distil(student, teacher, batches, **arguments)
    assert message in str(raised.value)
    assert same(values(student), start)


def test_models_that_do_not_fit() -> None:
    student, teacher = pair()
    batches = models.batches(3)
    with pytest.raises(UsageError, match=r"share the parameter 0\.weight, .*teacher = copy\.deepcopy\(model\)"):
        edgefc.distil(teacher, teacher, batches, steps=1)
    with pytest.raises(
        UsageError, match=r"no output of the same name and shape: output \(4, 6, 32\) and output \(4, 6, 3\)"
    ):
        edgefc.distil(student, nn.Linear(32, 3), batches, steps=1)
    with pytest.raises(UsageError, match=r"no parameter of the student requires gradients"):
        edgefc.distil(student.requires_grad_(False), teacher, batches, steps=1)
    with pytest.raises(UsageError, match=r"0\.down of the student is torch\.float16, .*model\.float\(\)"):
        edgefc.distil(student.requires_grad_(True).half(), teacher, batches, steps=1)
