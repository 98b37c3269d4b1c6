"""The data, the matched modules and the schedule."""

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from edgefc.errors import UsageError
from edgefc.training.data import Data
from edgefc.training.hidden import choose
from edgefc.training.schedule import Budget, Phase, trials
from tests.support import compress_models as models


def drawn(data: Data, start: int, count: int) -> list[float]:
    stream = data.stream(start)
    return [float(torch.as_tensor(next(stream)[0]).sum()) for _ in range(count)]


def listed() -> list[torch.Tensor]:
    return [torch.tensor([float(index)]) for index in range(5)]


def loader() -> Any:
    return DataLoader([torch.tensor([float(index)]) for index in range(10)], batch_size=2, shuffle=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: listed(),
        lambda: (each for each in listed()),
        loader,
        lambda: DataLoader(listed(), shuffle=True, generator=torch.Generator()),  # type: ignore[arg-type]
        lambda: lambda: iter(listed()),
    ],
    ids=["list", "generator", "loader", "loader with generator", "function"],
)
def test_the_order_is_that_of_the_seed(make: Any) -> None:
    torch.manual_seed(1)
    data = Data(make(), seed=4)
    whole = drawn(data, 0, 13)
    assert sum(whole[:5]) == sum(whole[5:10])
    torch.manual_seed(2)
    for start in (0, 3, 5, 7):
        assert drawn(Data(make(), seed=4), start, 13 - start) == whole[start:]
    assert data.count == 5


def test_lists_and_loaders_are_shuffled() -> None:
    for make in (listed, loader):
        whole = drawn(Data(make(), seed=0), 0, 10)
        assert whole[:5] != whole[5:]
        assert whole != drawn(Data(make(), seed=1), 0, 10)


def test_held_out_batches_are_not_trained_on() -> None:
    data = Data(listed(), seed=0)
    assert [float(each) for each in data.hold_out()] == [4.0]
    assert set(drawn(data, 0, 20)) == {0.0, 1.0, 2.0, 3.0}
    with pytest.raises(UsageError, match=r"batches is not a list.*Pass held_out=, a list of other batches, or metric="):
        Data(loader(), seed=0).hold_out()


@pytest.mark.parametrize(
    ("make", "batch", "expected"),
    [
        (models.encoder, models.batches()[0], ["layers.0"]),
        pytest.param(models.bert, models.token_batches()[0], ["encoder.layer.0"], marks=pytest.mark.slow),
        (models.resnet, models.images()[0], ["layer1.0", "layer1.1"]),
        (models.mlp, models.batches()[0], ["0"]),
        (models.speech, models.batches()[0], ["lstm"]),
        pytest.param(models.gpt2, models.token_batches()[0], ["h.0", "h.1"], marks=pytest.mark.slow),
    ],
)
def test_matched_modules(make: Any, batch: Any, expected: list[str]) -> None:
    """Blocks. The last block of an encoder is left out, because its output is that of the model."""
    torch.set_num_threads(1)
    assert choose(make(), make(), batch) == expected


def test_at_most_three_modules_with_outputs_of_one_shape() -> None:
    student, teacher = (torch.nn.Sequential(*(torch.nn.Linear(8, 8) for _ in range(8))) for _ in range(2))
    assert choose(student, teacher, torch.ones(2, 8)) == ["1", "3", "6"]
    student[1] = torch.nn.Linear(8, 9)
    student[2] = torch.nn.Linear(9, 8)
    assert choose(student, teacher, torch.ones(2, 8)) == ["2", "4", "6"]


def test_the_rate_rises_and_falls_to_nearly_zero() -> None:
    phase = Phase(0.2, 1.0, 1e-3)
    rates = [phase.rate(0.2 + 0.8 * index / 100) for index in range(101)]
    assert max(rates) == pytest.approx(1e-3)
    assert rates[0] < 1.1e-4 and rates[-1] == pytest.approx(1e-5)
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert [(each.start, each.end, each.lr) for each in trials((3.0, 1.0))] == [(0.0, 0.1, 3.0), (0.1, 0.2, 1.0)]


def test_budgets() -> None:
    budget = Budget(10, None)
    budget.step = 4
    assert budget.used() == 0.4
    budget = Budget(None, 1.0)
    budget.before = 30.0
    assert budget.used() == pytest.approx(0.5, abs=0.01)
    assert budget.used(reserve=10.0) == pytest.approx(0.6, abs=0.01)
