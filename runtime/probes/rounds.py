"""The timing loop: warm-up until times stop falling, then rounds in which each model runs in turn.

    round     one block of each model, A B A B ..., so that other load on the machine affects all models alike
    block     a slice of time filled with runs of one model; every stride-th run is kept as a sample
    lead-in   untimed runs at the start of a block: the models share caches, and other threads may still spin
"""  # fmt: skip

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from edgefc.runtime.probes.contracts import Block, Plan, Timed, WarmUp
from edgefc.runtime.probes.stats import settled

WINDOW_NS = 20_000_000  # a warm-up window; single interruptions would dominate a shorter one
WARM_UP_NS = 5_000_000_000  # the longest warm-up
LEAD_IN_NS = 1_000_000  # time to fill the caches
SPIN_NS = 60_000_000  # the lead-in if other models have threads, which spin for 45 ms after their last task
FEWEST_ROUNDS = 2
OVERTIME = 5  # after FEWEST_ROUNDS, timing ends when this multiple of the planned time has passed

Run = Callable[[], object]


class Clock:
    """Wall time, and CPU time of all threads of this process."""

    wall_ns = staticmethod(time.perf_counter_ns)
    cpu_ns = staticmethod(time.process_time_ns)


def time_models(runs: Sequence[Run], plan: Plan, clock: Any = Clock, *, lead_in_ns: int = LEAD_IN_NS) -> list[Timed]:
    """Warm up and time each model. Return one entry for each model, in the order of `runs`."""
    warm = [warm_up(run, clock) for run in runs]
    blocks: list[list[Block]] = [[] for _ in runs]
    start = clock.wall_ns()
    overtime = (OVERTIME * plan.time_ns + plan.rounds * lead_in_ns) * len(runs)
    for done in range(plan.rounds):
        if done >= FEWEST_ROUNDS and clock.wall_ns() - start > overtime:
            break
        for run, up, mine in zip(runs, warm, blocks):
            mine.append(block(run, up.run_ns, plan, clock, lead_in_ns))
    return [Timed(up, tuple(mine)) for up, mine in zip(warm, blocks)]


def warm_up(run: Run, clock: Any = Clock) -> WarmUp:
    """Run until the medians of successive windows stop falling, or WARM_UP_NS has passed."""
    medians: list[float] = []
    runs, start = 0, clock.wall_ns()
    while not settled(medians) and clock.wall_ns() - start < WARM_UP_NS:
        window = _fill(run, WINDOW_NS, 1, clock).samples_ns
        medians.append(median(window))
        runs += len(window)
    return WarmUp(runs, settled(medians), medians[-1])


def block(run: Run, run_ns: float, plan: Plan, clock: Any, lead_in_ns: int) -> Block:
    """Time one model for one slice, after the lead-in. The lead-in is skipped if a run takes ten times as long."""
    slice_ns = plan.time_ns // plan.rounds
    if run_ns < 10 * lead_in_ns:
        _fill(run, lead_in_ns, 1, clock)
    expected = slice_ns / max(run_ns, 1.0)
    return _fill(run, slice_ns, max(1, round(expected * plan.rounds / plan.samples)), clock)


def _fill(run: Run, slice_ns: int, stride: int, clock: Any) -> Block:
    """Take at least one run, and all runs that begin within the slice. Keep every stride-th one as a sample."""
    samples: list[int] = []
    runs, cpu, start = 0, clock.cpu_ns(), clock.wall_ns()
    end = start
    while not runs or end - start < slice_ns:
        before = clock.wall_ns()
        run()
        end = clock.wall_ns()
        if runs % stride == 0:
            samples.append(end - before)
        runs += 1
    return Block(tuple(samples), runs, end - start, clock.cpu_ns() - cpu)
