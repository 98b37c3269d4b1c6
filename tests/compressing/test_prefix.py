"""Runs without the blocks before a layer, against runs of the whole model."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefc.compressing.prefix import Prefix
from edgefc.replacing.measuring import outputs_of
from tests.support import compress_models as models


class Counted(nn.Linear):
    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return super().forward(x)


def chain(count: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(Counted(32, 32) for _ in range(count))).eval()


def prefix_of(model: nn.Module, batches: Any, *names: str) -> Prefix:
    prefix = Prefix(model, batches, {name: model.get_submodule(name) for name in names})
    for name in names:
        prefix.check(name)
    return prefix


@torch.no_grad()
def change(layer: Any) -> None:
    layer.weight += 0.1


def assert_same(prefix: Prefix, model: nn.Module, batches: Any, name: str) -> None:
    for one, other in zip(prefix.run(name), outputs_of(model, batches), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_blocks_before_a_layer_do_not_run() -> None:
    model, batches = chain(), models.batches(3)
    prefix = prefix_of(model, batches, "2")
    assert_same(prefix, model, batches, "2")
    change(model[2])
    assert_same(prefix, model, batches, "2")
    before = [layer.runs for layer in model]
    prefix.run("2")
    assert [layer.runs - count for layer, count in zip(model, before, strict=True)] == [0, 0, 3, 3]
    assert all("forward" not in vars(module) for module in model.modules())


@pytest.mark.parametrize("name", ["bert", "encoder", "vit"])
def test_models(name: str) -> None:
    model = getattr(models, name)()
    batches: Any = models.token_batches(2) if name == "bert" else models.batches(2)
    batches = [torch.randn(2, 3, 16, 16) for _ in range(2)] if name == "vit" else batches
    linears = [each for each, module in model.named_modules() if type(module) is nn.Linear][-3:]
    prefix = prefix_of(model, batches, linears[0])
    assert any(prefix._usable.values())
    change(model.get_submodule(linears[0]))
    assert_same(prefix, model, batches, linears[0])


def test_a_block_that_leaves_something_behind_runs() -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Writing(32, 32), nn.Linear(32, 32)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.b(y) + self.scale  # type: ignore[no-any-return, operator]

    class Writing(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            owner[0].scale = x.mean()  # read by the model
            return super().forward(x)

    torch.manual_seed(0)
    model = Reading().eval()
    owner: list[Any] = [model]
    batches = models.batches(2)
    prefix = prefix_of(model, batches, "b")
    assert not any(prefix._usable.values())
    change(model.b)
    assert_same(prefix, model, batches, "b")


def test_outputs_that_the_model_changes_in_place() -> None:
    class Adding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.add_(1)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32), Adding(), nn.Linear(32, 32)).eval()
    batches = models.batches(2)
    prefix = prefix_of(model, batches, "2")
    change(model[2])
    for _ in range(2):
        assert_same(prefix, model, batches, "2")


def test_a_block_that_runs_twice_runs() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(32, 32), nn.Linear(32, 32)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(self.b(self.a(x)))  # type: ignore[no-any-return]

    model, batches = Twice().eval(), models.batches(2)
    prefix = prefix_of(model, batches, "b")
    change(model.b)
    assert_same(prefix, model, batches, "b")
