"""What recipes say of their results: a difference only where the spread carries it."""

import pytest

pytest.importorskip("scipy")

from scipy import stats

from edgefc.recipes.findings import SANITY, gap, sentences
from edgefc.recipes.report import columns, markdown, rows
from edgefc.recipes.results import ArmPart, Machine, MetricPart, Results, Run


def arm(name: str, values: list[float], parameters: int = 10, stored: int | None = None, rate: float = 0.1) -> ArmPart:
    runs = tuple(Run(value=value, more={}, seconds=1.0) for value in values)
    stored = parameters if stored is None else stored
    tried = {"0.1": 1.0, "0.2": 0.5, "0.05": 0.5}
    return ArmPart(name=name, parameters=parameters, numbers_stored=stored, rate=rate, tried=tried, runs=runs)


def results(
    *arms: ArmPart, better: str = "higher", quick: bool = False, own: bool = False, ratio: float = 0
) -> Results:
    found = Results(
        schema_version=1, recipe="toy", paper="p", question="q?", quick=quick, data="d", test_over_train=ratio,
        own_data=own, metric=MetricPart(name="score", unit="%", better=better, form=".2f"), training="t.",  # type: ignore[arg-type]
        pairs=tuple((one.name, arms[0].name) for one in arms[1:]), arms=arms,
        machine=Machine(machine="m", cpu=None, cores=2), versions={"torch": "1"}, fingerprint="f", seconds=1.0,
        sentences=(),
    )  # fmt: skip
    return found.model_copy(update={"sentences": sentences(found)})


BASE = arm("base", [90.0, 91, 92, 93, 94], 1000)


def test_the_interval_is_that_of_the_paired_test() -> None:
    """scipy's own paired interval at the level that k comparisons leave."""
    other = arm("other", [90.5, 91.9, 92.2, 93.8, 94.1])

    found = gap(other, BASE, 2)

    expected = stats.ttest_rel(other.values, BASE.values).confidence_interval(0.975)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(0.5)


def test_overlapping_tests_widen_it() -> None:
    """s^2 (1 / seeds + test / train): with 5 seeds and a third, sqrt(0.2 + 1 / 3) / sqrt(0.2) times as wide."""
    other = arm("other", [90.5, 91.9, 92.2, 93.8, 94.1])
    plain, wide = gap(other, BASE, 1), gap(other, BASE, 1, 1 / 3)

    assert plain.high is not None and wide.high is not None
    assert (wide.high - wide.mean) / (plain.high - plain.mean) == pytest.approx((8 / 3) ** 0.5)


@pytest.mark.parametrize(
    ("shift", "better", "says"),
    [
        ([2, 2.1, 1.9, 2, 2.2], "higher", "other is better than base (100 times fewer parameters): "),
        ([2, 2.1, 1.9, 2, 2.2], "lower", "other is worse than base"),
        ([-2, -2.1, -1.9, -2, -2.2], "higher", "other is worse than base"),
        ([-2, -2.1, -1.9, -2, -2.2], "lower", "other is better than base"),
        ([2, -1.8, 1.5, -2, 2.2], "higher", "No difference could be shown between other and base"),
        ([0, 0, 0, 0, 0], "higher", "No difference could be shown"),
    ],
)
def test_a_difference_within_the_spread_is_not_called_one(shift: list[float], better: str, says: str) -> None:
    other = arm("other", [value + each for value, each in zip(BASE.values, shift, strict=True)])

    assert results(BASE, other, better=better).sentences[0].startswith(says)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [(1000, "the same number of parameters"), (1001, "nearly the same number"), (1200, "1.2 times more parameters")],
)
def test_the_sizes_of_both_arms(parameters: int, says: str) -> None:
    assert f"({says}" in results(BASE, arm("other", [1.0] * 5, parameters)).sentences[0]


@pytest.mark.parametrize("count", [1, 2])
def test_few_seeds_show_nothing(count: int) -> None:
    found = results(arm("base", [1.0] * count), arm("other", [9.0] * count))

    assert "a difference needs at least 3 seeds" in found.sentences[0]


def test_what_is_always_said() -> None:
    other = arm("other", [1.0] * 5, 10)

    assert results(BASE, other).sentences[-1] == SANITY
    assert "do not reproduce a result of the paper" in results(BASE, other, own=True).sentences[-1]
    quick = results(BASE, other, quick=True).sentences
    assert quick[0].startswith("This was a quick run") and not any("worse" in sentence for sentence in quick)
    assert any(
        "widened because the test sets of the seeds overlap" in s for s in results(BASE, other, ratio=0.3).sentences
    )


def test_a_rate_at_the_end_of_the_grid_is_told() -> None:
    told = results(BASE, arm("other", [1.0] * 5, rate=0.2)).sentences

    assert "The best rates of these arms are at an end of the tried range: other (0.2). Others may be better." in told
    assert not any("at an end of the tried range" in sentence for sentence in results(BASE).sentences)


def test_rates_chosen_on_rows_of_other_tests_are_told() -> None:
    said = "The rates were chosen on rows that other seeds test on"

    assert any(sentence.startswith(said) for sentence in results(BASE, ratio=0.3).sentences)
    assert not any(sentence.startswith(said) for sentence in results(BASE).sentences)


def test_the_table() -> None:
    found = results(BASE, arm("fro*zen", [1.0] * 5, 10, stored=500), arm("none", [0.0] * 5, 0))

    assert columns(found)[:4] == ("arm", "parameters", "numbers stored", "times fewer")
    assert rows(found)[0] == ("base", "1,000", "1,000", "1", "92.00 ± 1.58", "1")
    assert rows(found)[1][:4] == ("fro*zen", "10", "500", "100")
    assert rows(found)[2][3] == "-"
    assert "numbers stored" not in columns(results(BASE))
    assert "fro\\*zen" in markdown(found)
