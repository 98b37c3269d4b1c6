"""Layers that are fitted again in the order in which they run."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import edgefc
from edgefc.errors import EdgefcError, UsageError
from edgefc.fitting.sequential import PairedMoments
from edgefc.plan import Circulant, Int2, Int8, LowRank
from edgefc.replacing import distributed
from tests.support import compress_models as models

TO = LowRank(ratio=4)


class Block(nn.Module):
    """Adds to its inputs, so that the errors of blocks add up."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Any) -> Any:
        return x + self.second(torch.relu(self.first(x)))


def residual() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(*(Block() for _ in range(4))).eval()


def distance(model: Any, dense: Any, data: list[Any]) -> float:
    with torch.no_grad():
        pairs = [(model(x), dense(x)) for x in data]
    error = sum(float((a - b).square().sum()) for a, b in pairs)
    whole = sum(float(b.square().sum()) for _, b in pairs)
    return float(np.sqrt(error / whole))


def refitted(report: Any) -> list[str]:
    return [layer.name for layer in report.replaced if layer.refitted]


@pytest.mark.parametrize(
    ("make", "to", "gain"),
    [(residual, Int2(), 0.95), (residual, Circulant(block=8), 0.92), (models.encoder, TO, 0.97)],
)
def test_outputs_are_nearer(make: Any, to: Any, gain: float) -> None:
    """Oracle: the outputs of both models in torch, on batches that no fit has seen."""
    dense, data = make(), models.batches(30, seed=3)
    errors = []
    for sequential in (False, True):
        model = copy.deepcopy(dense)
        report = edgefc.replace(model, to, calibration=data, sequential=sequential)
        assert bool(refitted(report)) == sequential
        errors.append(distance(model, dense, data[27:]))
        assert report.outputs[0].error == pytest.approx(errors[-1], rel=1e-4)
        assert not any(module._forward_pre_hooks for module in model.modules())
    assert errors[1] < gain * errors[0], errors


def test_refit_is_that_of_the_target() -> None:
    """Oracle: numpy. The inputs z of the second layer come from the new first one, those of the first do not change."""
    dense: Any = models.mlp()
    model, data = copy.deepcopy(dense), models.batches(10)
    report = edgefc.replace(model, {"0": LowRank(rank=3), "2": LowRank(rank=5)}, calibration=data, sequential=True)
    assert refitted(report) == ["2"]
    fitting = torch.cat(data[:9]).flatten(0, 1)
    x, z = (each[:2](fitting).detach().double().numpy() for each in (dense, model))
    weight, bias = (each.detach().double().numpy() for each in (dense[2].weight, dense[2].bias))
    spread = np.cov(z.T, bias=True)
    level = 64 / len(x) * np.trace(spread) / 64
    cross = (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)
    best = (weight @ cross + level * weight) @ np.linalg.inv(spread + level * np.eye(64))
    _, vectors = np.linalg.eigh(best @ spread @ best.T)
    best = vectors[:, -5:] @ vectors[:, -5:].T @ best
    assert np.allclose((model[2].up @ model[2].down).detach().double().numpy(), best, atol=1e-4)
    assert np.allclose(model[2].bias.detach(), bias + weight @ x.mean(0) - best @ z.mean(0), atol=1e-4)


def test_stages_that_fit_into_little_memory_give_the_same() -> None:
    results = []
    for memory in (1, 1 << 30):
        model = models.encoder()
        edgefc.replace(model, TO, calibration=models.batches(6), memory=memory, sequential=True)
        results.append(model.state_dict())
    assert all(torch.allclose(results[0][name], results[1][name], atol=1e-5) for name in results[0])


def test_worse_refit_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refit to wrong targets leaves the first fits."""
    first, model = residual(), residual()
    edgefc.replace(first, TO, calibration=models.batches(6), sequential=False)
    monkeypatch.setattr(
        "edgefc.replacing.making.nearest_target",
        lambda weight, bias, paired: (-weight, None if bias is None else -bias),
    )
    report = edgefc.replace(model, TO, calibration=models.batches(6), sequential=True)
    assert refitted(report) == []
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in model.state_dict().items())


def test_layers_that_compress_little_stay_as_fitted() -> None:
    model, first = residual(), residual()
    plan = {"0.*": TO, "*": Int8(group=32)}
    report = edgefc.replace(model, plan, calibration=models.batches(6), sequential=True)
    assert refitted(report) in ([], ["0.second"])
    edgefc.replace(first, plan, calibration=models.batches(6), sequential=False)
    one, other = model.get_submodule("2.first"), first.get_submodule("2.first")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_shared_module_is_refitted_once() -> None:
    torch.manual_seed(0)
    block = Block()
    model = nn.Sequential(block, Block(), block).eval()
    dense, data = copy.deepcopy(model), models.batches(20, seed=3)
    first = copy.deepcopy(model)
    edgefc.replace(first, Circulant(block=8), calibration=data, sequential=False)
    report = edgefc.replace(model, Circulant(block=8), calibration=data, sequential=True)
    assert model[0].first is model[2].first
    assert "0.first" in refitted(report)
    assert distance(model, dense, data[18:]) < distance(first, dense, data[18:])


class Failing(nn.Module):
    """Fails from a call on, or returns what is not finite to the next layer, once its layers are replaced."""

    def __init__(self, calls: int, factor: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = (nn.Linear(32, 32) for _ in range(3))
        self.calls, self.factor = calls, factor

    def forward(self, x: Any) -> Any:
        x = self.second(torch.relu(self.first(x)))
        self.calls -= 1
        if self.calls < 0:
            if self.factor == 1.0:
                raise ValueError("too many calls")
            x = x * self.factor
        return self.third(torch.relu(x)).nan_to_num()


@pytest.mark.parametrize("calls", range(1, 20, 3))
def test_failing_call_leaves_the_model_as_it_was(calls: int) -> None:
    model = Failing(calls)
    before, modules = copy.deepcopy(model.state_dict()), list(model.modules())
    with pytest.raises(UsageError, match="too many calls"):
        edgefc.replace(model, TO, calibration=models.batches(6), sequential=True)
    assert list(model.modules()) == modules
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_inputs_that_are_not_finite() -> None:
    """Calls: held-out outputs twice, one to find groups, five for statistics; then those of the refit."""
    model = Failing(10, float("inf"))
    modules = list(model.modules())
    with pytest.raises(EdgefcError, match="not finite"):
        edgefc.replace(model, TO, calibration=models.batches(6), sequential=True)
    assert list(model.modules()) == modules


class Experts(nn.Module):
    """Routes rows by the output of a layer that is replaced too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.first, self.second, self.last = (nn.Linear(32, 32) for _ in range(4))

    def forward(self, x: Any) -> Any:
        x = x.flatten(0, 1)
        chosen = self.gate(x)[:, 0] > 0
        y = torch.empty_like(x)
        y[chosen], y[~chosen] = self.first(x[chosen]), self.second(x[~chosen])
        return self.last(y)


def test_experts_keep_the_first_fit() -> None:
    """Their inputs in both models cannot be paired."""
    model = Experts()
    report = edgefc.replace(model, TO, calibration=models.batches(12), sequential=True)
    assert refitted(report) in ([], ["last"])


@pytest.mark.parametrize("calibration", [None, models.batches(1)])
def test_needs_two_batches(calibration: Any) -> None:
    with pytest.raises(UsageError, match="Give at least two batches"):
        edgefc.replace(models.mlp(), TO, calibration=calibration, sequential=True)


def test_pairs_of_several_ranks_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks with the same data, so that a sum over ranks doubles. Oracle: one process with all data."""
    rng = np.random.default_rng(0)
    x, z = rng.normal(3, 1, (2, 20, 5))
    own, whole = PairedMoments(5), PairedMoments(5)
    own.add(x, z)
    whole.add(np.concatenate([x, x]), np.concatenate([z, z]))
    monkeypatch.setattr(distributed, "several", lambda: True)
    monkeypatch.setattr(distributed, "summed", lambda array: np.asarray(array) * 2)
    both = distributed.merged_pairs(own)
    assert both.moments.count == 40
    for name in ("mean", "scatter"):
        assert np.allclose(getattr(both, name), getattr(whole, name))
        assert np.allclose(getattr(both.moments, name), getattr(whole.moments, name))
