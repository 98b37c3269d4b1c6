"""Child: time one or more models in one process, in interleaved rounds.

Question: models, inputs, shapes, ranges, batch, preset, native, threads, time_ns, rounds, samples.
Answer: timed (a Timed for each model), timer_step_ns, other_cores (what other programs used meanwhile, or null).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from edgefc.runtime.inputs import Wanted, feeds_for
from edgefc.runtime.probes.rounds import LEAD_IN_NS, SPIN_NS, Plan, time_models
from edgefc.runtime.session import open_session

_STAT = Path("/proc/stat")
_TICKS_PER_S = 100  # USER_HZ, what Linux shows to programs on every architecture but alpha
_SHORTEST_S = 0.2  # below it a few ticks, which are 10 ms, would be read as another program
_IDLE, _IOWAIT, _GUEST = 3, 4, 8  # columns of /proc/stat; guest time is counted in user time already


def steady(question: dict[str, Any]) -> dict[str, Any]:
    runs = []
    for model in question["models"]:
        session = open_session(model, question)
        runs.append(session.bound(feeds_for(session.inputs, Wanted.of(question))[0]))
    several = len(runs) > 1 and question["threads"] > 1
    lead_in_ns = SPIN_NS if several else LEAD_IN_NS
    plan = Plan(question["time_ns"], question["rounds"], question["samples"], lead_in_ns)
    start, own, busy = time.perf_counter(), time.process_time(), _busy_s()
    timed = time_models(runs, plan)
    wall, own = time.perf_counter() - start, time.process_time() - own
    return {"timed": timed, "timer_step_ns": _timer_step_ns(), "other_cores": _other_cores(busy, _busy_s(), own, wall)}


def _other_cores(before: float | None, after: float | None, own_s: float, wall_s: float) -> float | None:
    if before is None or after is None or wall_s < _SHORTEST_S:
        return None
    return max(0.0, after - before - own_s) / wall_s


def _busy_s() -> float | None:
    """Seconds that all cores together have worked since the machine started."""
    try:
        ticks = [int(word) for word in _STAT.read_text().splitlines()[0].split()[1:]][:_GUEST]
    except (OSError, ValueError, IndexError):
        return None
    return (sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT]) / _TICKS_PER_S


def _timer_step_ns() -> int:
    """The smallest step between two readings of the clock: its resolution, or the cost of reading it."""
    readings = [time.perf_counter_ns() for _ in range(1000)]
    return min(b - a for a, b in zip(readings, readings[1:]) if b > a)


answer = steady
