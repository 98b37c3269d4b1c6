"""choose() on subjects whose losses are numbers, against all plans."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from edgefc.choosing.budget import budget_of
from edgefc.choosing.choosing import choose, compare
from edgefc.choosing.costs import Costs
from edgefc.choosing.report import report_of
from edgefc.choosing.subject import Swap, Unit
from edgefc.choosing.uniform import uniform_plans
from edgefc.errors import UsageError
from edgefc.plan.configurations import Half, Int2, Int3, Int4, Int8, Keep, LowRank
from tests.support.choosing_models import Numbers, numbers


def every_plan(subject: Numbers) -> list[tuple[float, float]]:
    """Bytes and loss of all plans."""
    for unit in subject.units:
        subject.swaps(unit)
    bits = {Half: 2, Int8: 1, Int4: 0.5, Int3: 0.375, Int2: 0.25, Keep: 4}
    result = []
    for options in itertools.product(*([Keep(), *unit.configurations] for unit in subject.units)):
        pairs = list(zip(subject.units, options, strict=True))
        choices = {unit.name: to for unit, to in pairs if not isinstance(to, Keep)}
        size = subject.other_bytes + sum(int(unit.numbers * bits[type(to)]) for unit, to in pairs)
        result.append((size, subject.loss(choices)))
    return result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("part", [0.09, 0.125, 0.3])
def test_sum_of_losses_gives_the_best_of_all_plans(seed: int, part: float) -> None:
    subject = numbers(4, seed=seed)
    choice = choose(subject, budget_of(f"bytes={part}"))
    whole = subject.other_bytes + sum(unit.bytes for unit in subject.units)
    best = min(loss for size, loss in every_plan(numbers(4, seed=seed)) if size <= part * whole)
    assert choice.chosen.loss == pytest.approx(best, rel=1e-9)
    assert choice.chosen.bytes <= part * whole
    assert choice.limit == part * whole


def test_numbers_budget_counts_numbers() -> None:
    subject = numbers(4, without=dict.fromkeys(range(4), (Half, Int8, Int4, Int3)))
    with pytest.raises(UsageError, match=r"no plan is within numbers=0\.5"):  # quantised layers have as many numbers
        choose(subject, budget_of("numbers=0.5"))


@pytest.mark.parametrize("seed", range(4))
def test_neighbours_improve_a_plan_whose_prediction_is_wrong(seed: int) -> None:
    """Neighbouring units in Int2 cost more than their sum."""
    subject = numbers(8, seed=seed, cross=5.0)
    choice = choose(subject, budget_of("bytes=0.095"))
    assert choice.chosen.loss is not None
    assert choice.first.loss is not None
    rivals = [each for each in choice.uniform if each.cost <= choice.limit]
    assert rivals
    assert choice.chosen.loss == min(each.loss or 0 for each in (choice.first, *choice.tried, *rivals))
    assert len(choice.tried) <= 12
    assert all(each.cost <= choice.limit for each in choice.tried)


def test_neighbours_find_better_plans() -> None:
    """On most subjects: otherwise they would not be worth their time."""
    better = 0
    for seed in range(1, 6):
        choice = choose(numbers(8, seed=seed, cross=5.0), budget_of("bytes=0.08"))
        better += min(each.loss or 0 for each in choice.tried) < (choice.first.loss or 0)
    assert better >= 3


def test_a_uniform_plan_wins_where_the_prediction_is_worse_than_it() -> None:
    """All plans that mix kinds lose much more than their layers do."""

    class Mixed(Numbers):
        def loss(self, choices: Any) -> float:
            return super().loss(choices) * (1000 if len(choices) > 1 and len({*choices.values()}) > 1 else 1)

    made = numbers(6)
    choice = choose(Mixed(made.units, made.losses), budget_of("bytes=0.2"))
    assert {*choice.chosen.choices.values()} == {Int4()}
    assert choice.chosen.name == "chosen"
    assert choice.best_uniform is not None
    assert choice.best_uniform.name == "Int4"


def test_uniform_plans_contain_every_candidate_and_are_measured() -> None:
    subject = numbers(4, without={2: (Int3,), 3: (Half, Int8)})
    choice = choose(subject, budget_of("bytes=0.3"))
    plans = {each.name: each for each in choice.uniform}
    assert [*plans] == [
        "Half, others larger", "Half, others smaller", "Int8, others larger", "Int8, others smaller", "Int4",
        "Int3, others larger", "Int3, others smaller", "Int2",
    ]  # fmt: skip
    assert all(each.loss is not None for each in choice.uniform)
    assert plans["Int3, others larger"].choices["layer.2"] == Int4()
    assert plans["Int3, others smaller"].choices["layer.2"] == Int2()
    assert "layer.3" not in plans["Half, others larger"].choices  # nothing larger than Half but the layer itself
    assert plans["Half, others smaller"].choices["layer.3"] == Int4()


def test_a_quantised_layer_stands_for_a_quantised_one() -> None:
    """A low rank in 8 bits has less bytes than Int4, and loses much more."""
    low = LowRank(ratio=2, storage="int8")
    wide = Unit("wide", "Linear", 1000, 4000, (Int4(), Int3(), low))
    table = Unit("table", "Embedding", 1000, 4000, (Int4(), Int2(), low))
    sizes = {Int4(): 563, Int3(): 391, Int2(): 281, low: 520}
    swaps = {
        unit.name: [Swap(unit.name, to, 0.1, None, 1000, sizes[to]) for to in unit.configurations]
        for unit in (wide, table)
    }
    plans = {each.name: each.choices for each in uniform_plans([wide, table], swaps)}
    assert plans["Int3, others larger"] == {"wide": Int3(), "table": Int4()}
    assert plans["Int3, others smaller"] == {"wide": Int3(), "table": Int2()}


def test_metric_decides_between_measured_plans() -> None:
    class Odd(Numbers):
        def metric(self, choices: Any) -> float:
            return 1.0 if {*choices.values()} == {Int3()} else 0.5

    made = numbers(5)
    choice = choose(Odd(made.units, made.losses, has_metric=True), budget_of("bytes=0.2"))
    assert {*choice.chosen.choices.values()} == {Int3()}
    assert choice.chosen.metric == 1.0


@pytest.mark.parametrize("part", [0.09, 0.12, 0.2, 0.4])
def test_max_drop_gives_the_smallest_plan_of_the_frontier_that_is_good_enough(part: float) -> None:
    subject = numbers(5, has_metric=True)
    half = choose(numbers(5), budget_of(f"bytes={part}")).chosen.loss
    choice = choose(subject, budget_of(f"max-drop={half}"))
    assert choice.chosen.metric is not None
    assert choice.chosen.metric >= 1 - (half or 0)
    smaller = [each for each in choice.frontier if each.bytes < choice.chosen.bytes]
    assert smaller
    assert all(subject.metric(each.choices) < 1 - (half or 0) for each in smaller)  # type: ignore[operator]
    assert len(choice.tried) <= 7


def test_max_drop_of_zero_keeps_what_loses_anything() -> None:
    choice = choose(numbers(5, has_metric=True), budget_of("max-drop=0"))
    assert choice.chosen.choices == {}
    assert choice.chosen.metric == 1.0


def test_max_drop_needs_a_metric() -> None:
    with pytest.raises(UsageError, match=r"max-drop=0\.01 needs a metric"):
        choose(numbers(3), budget_of("max-drop=0.01"))


def test_a_budget_that_no_plan_meets_names_the_smallest_plan() -> None:
    with pytest.raises(UsageError) as error:
        choose(numbers(3), budget_of("bytes=0.01"))
    part = float(str(error.value).partition("Give at least bytes=")[2].partition(",")[0])
    choose(numbers(3), budget_of(f"bytes={part}"))
    with pytest.raises(UsageError):
        choose(numbers(3), budget_of(f"bytes={part - 0.002}"))


def test_costs_of_a_latency() -> None:
    """A layer that is slower as Int4 stays, although that loses nothing in bytes."""
    subject = numbers(3)
    before = {unit.name: 10.0 for unit in subject.units}
    after = {(unit.name, to): 30.0 if to == Int4() else 4.0 for unit in subject.units for to in (Int8(), Int4())}
    choice = choose(subject, budget_of("latency=25us@local"), costs=Costs("microseconds", 1.0, before, after))
    assert choice.chosen.cost <= 25
    assert choice.what == "microseconds"
    assert {*choice.chosen.choices.values()} == {Int8()}
    assert {each.name for each in choice.uniform} == {"Int8", "Int4"}  # what was not timed cannot be chosen


def test_compare_measures_a_given_plan_and_the_uniform_ones() -> None:
    subject = numbers(3)
    choices = {"layer.0": Int2(), "layer.2": Int8()}
    choice = compare(subject, choices)
    assert choice.chosen.choices == choices
    assert choice.chosen.loss == pytest.approx(sum(subject.losses[each] for each in choices.items()))
    assert {each.name for each in choice.uniform} == {"Half", "Int8", "Int4", "Int3", "Int2"}


def test_report() -> None:
    subject = numbers(5, cross=1.0)
    choice = choose(subject, budget_of("bytes=0.1"))
    report = report_of(choice, subject, {"rules": []})
    for layer in report.layers:
        rest = {name: to for name, to in choice.chosen.choices.items() if name != layer.name}
        if layer.to != "Keep":
            expected = subject.loss(choice.chosen.choices) - subject.loss(rest)
            assert layer.measured == pytest.approx(expected)
            assert layer.predicted == subject.losses[layer.name, choice.chosen.choices[layer.name]]
    assert sum(layer.bytes_after for layer in report.layers) + subject.other_bytes == report.after.bytes
    assert report.before.loss == 0
    assert report.before.bytes == subject.other_bytes + sum(unit.bytes for unit in subject.units)
    assert "The best uniform plan within the budget: Int3" in report.sentence()
    assert report.record()["limit"] == choice.limit


def test_threads_give_the_same_plan() -> None:
    alone = choose(numbers(9, cross=2.0), budget_of("bytes=0.1"))
    subject = numbers(9, cross=2.0)
    with ThreadPoolExecutor(2) as executor:
        together = choose(subject, budget_of("bytes=0.1"), executor=executor)
    assert together == alone
    assert subject.swept == []  # the tasks have their own copies
    assert {*subject.fitted} == {unit.name for unit in subject.units}


def test_a_task_gets_the_subject_once_for_several_units() -> None:
    sent: list[int] = []

    class Counting(ThreadPoolExecutor):
        def submit(self, function: Any, pickled: bytes, units: Any) -> Any:  # type: ignore[override]
            sent.append(len(units))
            return super().submit(function, pickled, units)

    with Counting(2) as executor:
        choose(numbers(9), budget_of("bytes=0.1"), executor=executor)
    assert sorted(sent) == [1, 4, 4]


def test_a_subject_that_cannot_be_sent() -> None:
    class Local(Numbers):
        pass

    made = numbers(3)
    with ThreadPoolExecutor(1) as executor, pytest.raises(UsageError, match="cannot be sent to another process"):
        choose(Local(made.units, made.losses), budget_of("bytes=0.1"), executor=executor)
