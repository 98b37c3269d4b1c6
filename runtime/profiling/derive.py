"""From what the child processes answered to the parts of a record."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from edgefc.runtime.probes import stats
from edgefc.runtime.profiling.parts import Cell, Fed, Launches, Speed, Steady


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


def speeds_of(cells: list[Cell]) -> list[Speed]:
    """Of every model that can be compared with the first."""
    processes = [r.process for r in cells[0].steady.rounds]
    first = [r.samples_ns for r in cells[0].steady.rounds]
    found = []
    for cell in cells[1:]:
        if cell.not_compared is not None:
            continue
        interval = stats.speed([r.samples_ns for r in cell.steady.rounds], first, processes)
        found.append(Speed(model=cell.model, threads=cell.threads, batch=cell.batch, **interval._asdict()))
    return found


def not_compared(first: Sequence[Fed], own: Sequence[Fed]) -> str | None:
    """Why the times of two models do not compare: they are fed with arrays of other shapes, or of other kinds.

    Names may differ, and so may the widths of numbers: a model in float16 does the work of one in float32.
    """
    if _work(first) == _work(own):
        return None
    return f"its inputs are {_listed(own)}, and those of the first model are {_listed(first)}"


def _work(inputs: Sequence[Fed]) -> list[tuple[str, tuple[int, ...]]]:
    return sorted((fed.dtype.rstrip("0123456789").removeprefix("u"), fed.shape) for fed in inputs)


def _listed(inputs: Sequence[Fed]) -> str:
    return ", ".join(map(str, inputs)) or "none"
