"""The timing loop on a clock that replays recorded timings."""

from collections.abc import Iterable, Iterator

from edgefc.runtime.probes import rounds
from edgefc.runtime.probes.contracts import Plan

MS = 1_000_000
PLAN = Plan(time_ns=200 * MS, rounds=10, samples=1000)


class Replay:
    """A clock that runs move on by the next recorded time; half of it is CPU time."""

    def __init__(self) -> None:
        self.now = 0
        self.order: list[str] = []

    def wall_ns(self) -> int:
        return self.now

    def cpu_ns(self) -> int:
        return self.now // 2

    def model(self, name: str, times_ns: Iterable[int]) -> rounds.Run:
        recorded = _last_forever(times_ns)

        def run() -> None:
            self.order.append(name)
            self.now += next(recorded)

        return run


def _last_forever(times: Iterable[int]) -> Iterator[int]:
    for time in times:
        yield time
    while True:
        yield time


def test_warm_up_ends_on_the_plateau() -> None:
    clock = Replay()
    falling = [300 * MS, 200 * MS, 100 * MS, 60 * MS, 50 * MS]

    found = rounds.warm_up(clock.model("a", falling), clock)

    assert found == rounds.WarmUp(runs=8, settled=True, run_ns=50 * MS)


def test_warm_up_is_bounded_and_says_so() -> None:
    clock = Replay()
    ever_falling = [int(400 * MS * 0.97**n) for n in range(1000)]

    found = rounds.warm_up(clock.model("a", ever_falling), clock)

    assert not found.settled
    assert clock.now <= rounds.WARM_UP_NS + 400 * MS


def test_models_take_turns() -> None:
    clock = Replay()
    rounds.time_models([clock.model("a", [30 * MS]), clock.model("b", [30 * MS])], PLAN, clock)

    assert "".join(clock.order).endswith("abab" * 5)


def test_samples_are_the_recorded_times_and_all_runs_count() -> None:
    """1 ms runs fill a 20 ms block; 1 lead-in run each is not in it."""
    clock = Replay()
    (found,) = rounds.time_models([clock.model("a", [MS])], PLAN, clock)

    assert [len(block.samples_ns) for block in found.blocks] == [20] * 10
    assert {block.cpu_ns for block in found.blocks} == {10 * MS}
    assert {sample for block in found.blocks for sample in block.samples_ns} == {MS}


def test_threads_of_other_models_have_time_to_rest() -> None:
    """onnxruntime's threads spin on after a run; what runs beside them is led in, and loses no round by that."""
    clock = Replay()
    runs = [clock.model("a", [20 * MS]), clock.model("b", [20 * MS])]
    found = rounds.time_models(runs, PLAN, clock, lead_in_ns=rounds.SPIN_NS)

    assert [len(model.blocks) for model in found] == [10, 10]
    assert "".join(clock.order).endswith("aaaabbbb" * 10)  # three runs are 60 ms, the fourth is kept


def test_fast_models_keep_every_so_manieth_sample() -> None:
    """10 us runs: 20,000 in all, of which about 1,000 are kept, from the whole time."""
    clock = Replay()
    (found,) = rounds.time_models([clock.model("a", [10_000])], PLAN, clock)

    assert [len(block.samples_ns) for block in found.blocks] == [100] * 10
    assert sum(block.runs for block in found.blocks) == 20_000


def test_slow_models_end_after_the_fewest_rounds() -> None:
    clock = Replay()
    (found,) = rounds.time_models([clock.model("a", [2_000 * MS])], PLAN, clock)

    assert [block.runs for block in found.blocks] == [1] * rounds.FEWEST_ROUNDS
