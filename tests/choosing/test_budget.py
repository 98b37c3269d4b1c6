"""Budgets as text."""

import pytest

from edgefc.choosing.budget import Budget, budget_of
from edgefc.errors import UsageError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("bytes=0.25", Budget("bytes", 0.25, relative=True)),
        ("bytes=6000000", Budget("bytes", 6e6)),
        ("bytes=1.5MB", Budget("bytes", 1.5e6)),
        ("bytes=0.5 MB", Budget("bytes", 5e5)),
        ("numbers=1e6", Budget("numbers", 1e6)),
        ("numbers=.1", Budget("numbers", 0.1, relative=True)),
        ("latency=2ms@pi", Budget("latency", 2000.0, device="pi")),
        ("latency=0.5@user@board", Budget("latency", 0.5, relative=True, device="user@board")),
        ("latency=300us@local", Budget("latency", 300.0, device="local")),
        ("max-drop=0.01", Budget("max-drop", 0.01)),
        ("max-drop=2", Budget("max-drop", 2.0)),
        ("max-drop=0", Budget("max-drop", 0.0)),
    ],
)
def test_text(text: str, budget: Budget) -> None:
    assert budget_of(text) == budget
    assert budget_of(str(budget)) == budget
    assert budget_of(budget) is budget


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("byte=0.25", "there is no budget 'byte'"),
        ("bytes", "cannot read the budget 'bytes'"),
        ("bytes=a", "cannot read the budget"),
        ("bytes=-1", "cannot read the budget"),
        ("bytes=1.2.3", "'1.2.3', which is not a number"),
        ("bytes=0", "which no model meets"),
        ("bytes=1e999", "which no model meets"),
        ("bytes=5TB", "no unit 'TB'. Choose kB, MB, GB."),
        ("numbers=5MB", "no unit 'MB'. Leave it out."),
        ("latency=2ms", "needs a device"),
        ("latency=2@pi", "has no unit. Give ms or us, such as latency=2ms@pi."),
        ("bytes=0.5@pi", "has no device"),
        (0.25, "a budget cannot be 0.25"),
        ({"bytes": 0.25}, "a budget cannot be {'bytes': 0.25}"),
    ],
)
def test_mistakes(given: object, what: str) -> None:
    with pytest.raises(UsageError) as error:
        budget_of(given)
    assert what in str(error.value)


def test_limit_is_a_part_of_the_original_or_a_number() -> None:
    assert budget_of("bytes=0.25").limit(1000) == 250
    assert budget_of("bytes=25kB").limit(1000) == 25000
