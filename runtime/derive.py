"""From what the child processes answered to the parts of a record."""

from statistics import median
from typing import Any

from edgefc.runtime import stats
from edgefc.runtime.parts import Cell, Launches, Ratio, Steady


def steady_of(index: int, found: list[dict[str, Any]]) -> Steady:
    """Of model number `index`, from the answers of all processes."""
    timed = [answer["timed"][index] for answer in found]
    rounds = [{"process": process, **block} for process, one in enumerate(timed) for block in one["blocks"]]
    samples = [sample for block in rounds for sample in block["samples_ns"]]
    runs, cpu = sum(block["runs"] for block in rounds), [block["cpu_ns"] for block in rounds]
    other = [answer["other_cores"] for answer in found if answer["other_cores"] is not None]
    return Steady.of({
        **stats.summary(samples)._asdict(), "sample_count": len(samples),
        "cpu_ns_per_run": None if None in cpu else sum(cpu) / runs,
        "timer_step_ns": max(answer["timed"][index].get("timer_step_ns", answer["timer_step_ns"]) for answer in found),
        "runs_per_sample": max(one.get("runs_per_sample", 1) for one in timed),
        "other_cores": sum(other) / len(other) if other else None,
        "warm_ups": [one["warm_up"] for one in timed], "rounds": rounds,
    })  # fmt: skip


def launches_of(samples_ns: list[int]) -> Launches:
    return Launches(median_ns=float(median(samples_ns)), samples_ns=tuple(samples_ns))


def ratios_of(cells: list[Cell]) -> list[Ratio]:
    """Of every model but the first to the first."""
    processes = [r.process for r in cells[0].steady.rounds]
    first = [r.samples_ns for r in cells[0].steady.rounds]
    found = []
    for cell in cells[1:]:
        interval = stats.ratio([r.samples_ns for r in cell.steady.rounds], first, processes)
        found.append(Ratio(model=cell.model, threads=cell.threads, batch=cell.batch, **interval._asdict()))
    return found
