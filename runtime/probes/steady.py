"""Child: time one or more models in one process, in interleaved rounds."""

from __future__ import annotations

import time
from pathlib import Path

from edgefc.runtime.inputs import feeds_for
from edgefc.runtime.probes.contracts import SteadyAnswer, SteadyQuestion
from edgefc.runtime.probes.opening import opened
from edgefc.runtime.probes.rounds import LEAD_IN_NS, SPIN_NS, time_models

_STAT = Path("/proc/stat")
_TICKS_PER_S = 100  # USER_HZ, the unit of /proc/stat on every Linux architecture except alpha
_SHORTEST_S = 0.2  # in a shorter time, a few ticks of 10 ms would look like another program
_IDLE, _IOWAIT, _GUEST = 3, 4, 8  # columns of /proc/stat; user time already includes guest time


def steady(asked: SteadyQuestion) -> SteadyAnswer:
    runs = []
    for model in asked.models:
        session = opened(model)
        runs.append(session.bound(feeds_for(session.inputs, asked.wanted)[0]))
    several = len(runs) > 1 and any(model.options.threads > 1 for model in asked.models)
    start, own, busy = time.perf_counter_ns(), time.process_time(), _busy_s()
    timed = time_models(runs, asked.plan, lead_in_ns=SPIN_NS if several else LEAD_IN_NS)
    wall, own = time.perf_counter_ns() - start, time.process_time() - own
    others = _other_cores(busy, _busy_s(), own, wall / 1e9)
    return SteadyAnswer(tuple(timed), _timer_step_ns(), wall, others)


def _other_cores(before: float | None, after: float | None, own_s: float, wall_s: float) -> float | None:
    if before is None or after is None or wall_s < _SHORTEST_S:
        return None
    return max(0.0, after - before - own_s) / wall_s


def _busy_s() -> float | None:
    """The seconds of work of all cores together since the machine started."""
    try:
        ticks = [int(word) for word in _STAT.read_text().splitlines()[0].split()[1:]][:_GUEST]
    except (OSError, ValueError, IndexError):
        return None
    return (sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT]) / _TICKS_PER_S


def _timer_step_ns() -> int:
    """The smallest step between two readings of the clock: its resolution, or the cost of reading it."""
    readings = [time.perf_counter_ns() for _ in range(1000)]
    return min(b - a for a, b in zip(readings, readings[1:]) if b > a)


question, answer = SteadyQuestion, steady
