"""Convert the answers of probes to the parts of a record."""

from collections.abc import Sequence
from statistics import median

from edgefc.runtime.probes import stats
from edgefc.runtime.probes.contracts import SteadyAnswer, Trial
from edgefc.runtime.profiling.parts import ArrayInfo, Cell, Launches, Round, Speed, Steady, WarmUp


def steady_of(answers: Sequence[SteadyAnswer], indices: Sequence[int]) -> Steady:
    """The steady state of one model, from the answers of all processes. indices[i] is its index in answers[i]."""
    timed = [answer.timed[index] for answer, index in zip(answers, indices, strict=True)]
    rounds = [Round(process=process, **vars(block)) for process, one in enumerate(timed) for block in one.blocks]
    samples = [sample for each in rounds for sample in each.samples_ns]
    cpu = [each.cpu_ns for each in rounds if each.cpu_ns is not None]
    other = [answer.other_cores for answer in answers if answer.other_cores is not None]
    return Steady(
        **stats.summary(samples)._asdict(), sample_count=len(samples),
        cpu_ns_per_run=None if len(cpu) < len(rounds) else sum(cpu) / sum(each.runs for each in rounds),
        timer_step_ns=max(answer.step_ns(index) for answer, index in zip(answers, indices, strict=True)),
        runs_per_sample=max(one.runs_per_sample for one in timed),
        other_cores=sum(other) / len(other) if other else None,
        warm_ups=tuple(WarmUp.of(one.warm_up) for one in timed), rounds=tuple(rounds),
    )  # fmt: skip


def inputs_of(trial: Trial) -> tuple[ArrayInfo, ...]:
    return tuple(ArrayInfo.of(one) for one in trial.inputs)


def launches_of(samples_ns: Sequence[int]) -> Launches:
    return Launches(median_ns=float(median(samples_ns)), samples_ns=tuple(samples_ns))


def speeds_of(cells: list[Cell]) -> list[Speed]:
    """The speed of every model that can be compared with the first one."""
    processes = [r.process for r in cells[0].steady.rounds]
    first = [r.samples_ns for r in cells[0].steady.rounds]
    speeds = []
    for cell in cells[1:]:
        if cell.not_compared is not None:
            continue
        interval = stats.speed([r.samples_ns for r in cell.steady.rounds], first, processes)
        speeds.append(Speed(model=cell.model, threads=cell.threads, batch=cell.batch, **interval._asdict()))
    return speeds


def not_compared(first: Sequence[ArrayInfo], own: Sequence[ArrayInfo]) -> str | None:
    """Why the times of two models cannot be compared: their inputs have different shapes or kinds of numbers.

    The names may differ, and so may the widths of the numbers: float16 models are compared with float32 models.
    """
    if _work(first) == _work(own):
        return None
    return f"its inputs are {_listed(own)}, and those of the first model are {_listed(first)}"


def _work(inputs: Sequence[ArrayInfo]) -> list[tuple[str, tuple[int, ...]]]:
    return sorted((each.dtype.rstrip("0123456789").removeprefix("u"), each.shape) for each in inputs)


def _listed(inputs: Sequence[ArrayInfo]) -> str:
    return ", ".join(map(str, inputs)) or "none"
