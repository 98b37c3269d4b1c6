"""compress_file(): the best copy of an .onnx file within a budget."""

import glob
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgefc import temporary
from edgefc.choosing.budget import Budget, budget_of
from edgefc.choosing.choice import Choice, Point, quality
from edgefc.choosing.choosing import choose, compare
from edgefc.choosing.report import CompressReport, PlanResult, report_of
from edgefc.errors import UsageError
from edgefc.files import check_writable
from edgefc.latency.clock import HERE, Clock
from edgefc.plan.configurations import Configuration
from edgefc.plan.reading import plan_of
from edgefc.plan.rules import Plan, Rule
from edgefc.rewriting.candidates import CANDIDATES, RIVALS, affordable
from edgefc.rewriting.deciding import decide
from edgefc.rewriting.feeds import Divided, Feeds, Given, divided
from edgefc.rewriting.loss import loss_between
from edgefc.rewriting.reading import file_bytes
from edgefc.rewriting.replacing import usable_threads
from edgefc.rewriting.subject import FileSubject, Metric
from edgefc.rewriting.timing import costs_of, first_sample
from edgefc.runtime.session import Session
from edgefc.timing import Steps

_TRIES = 4
"""Plans that are written and measured until one is within the budget."""


def compress_file(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    plan: Any = None,
    budget: str | Budget | None = None,
    calibration: Given | None = None,
    metric: Metric | None = None,
    candidates: Sequence[Configuration] | None = None,
    executor: Executor | None = None,
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> CompressReport:
    """Writes the best copy of an .onnx file within a budget.

        compress_file("model.onnx", "small.onnx", budget="bytes=0.25", calibration="data.npz")

    As edgefc.compress(), for a file and without torch. Bytes are those of the file, with its external data. The chosen
    plan is measured again in the file that is written: its bytes, its loss, and for a budget of latency its time on
    the device. If it exceeds the budget there, a smaller plan is chosen.

    Args:
        source: the .onnx file.
        output: the .onnx file to write. It must not be the source.
        plan: a plan to carry out instead of a budget, as for replace_file(). It is compared with uniform plans.
        budget: such as "bytes=0.25", "latency=2ms@pi" or "latency=0.5@here" (edgefc.choosing.budget).
        calibration: as for replace_file(). A tenth is held out for the figures of the report, about 64 samples are for
            choosing, and the fits use the rest.
        metric: a function from a Session to a number, higher is better. It decides between the plans that are
            measured. Without it, the loss does.
        candidates: what weights can become; each gets those that serve it. By default: quantised weights, and low
            ranks in 8 bits, without those whose functions take more than a hundredth of the file.
        executor: of concurrent.futures, or of Dask: fits and measures weights in parallel.
        folder: keeps all results, so that the same call goes on after an interruption.
        seed: of rotations and seeded matrices.
        threads: of onnxruntime for the losses; by default the number of CPUs, at most 16. Latencies are those of one.

    Returns:
        CompressReport. Its last stage is the written file.

    Raises:
        UsageError: both or neither of plan and budget, no calibration data, no weight that can be replaced, a budget
            that no plan meets or that needs a metric, or a folder with results of other data.
        ModelError: the source is not valid, or does not run.
        CheckFailed: an output of the new model is not finite.
        DeviceError: the device of a latency cannot be reached.
    """
    path, target = Path(source), Path(output)
    wanted = _checked(target, plan, budget, calibration, metric)
    check_writable(target, path)
    used = threads or usable_threads()
    device = None if wanted is None or wanted.kind != "latency" else wanted.device or HERE[0]
    if device is not None:
        with Clock(device):  # fails before the work, if it does
            pass
    session = Session(path, threads=used, native="off")
    assert calibration is not None
    data = divided(calibration, session.inputs)
    work = _Work(path, target, data, used, Steps())
    with work.done.step("read calibration data"):
        subject = FileSubject(
            path, _candidates(candidates, plan, path), data, metric=metric, threads=used, seed=seed,
            smallest=None if plan is None else 1,
        )  # fmt: skip
    with _kept(folder) as place:
        if wanted is None:
            return work.planned(subject, plan_of(plan), place)
        return work.within(subject, wanted, place, executor, device)


@dataclass(frozen=True)
class _Work:
    """One call of compress_file()."""

    source: Path
    target: Path
    data: Divided
    threads: int
    done: Steps

    def planned(self, subject: FileSubject, plan: Plan, folder: Path) -> CompressReport:
        """Carries out a plan."""
        choice = compare(subject, _choices(subject, plan), folder=folder, measured=self.done)
        return self._finished(subject, choice)

    def within(
        self, subject: FileSubject, budget: Budget, folder: Path, executor: Executor | None, device: str | None
    ) -> CompressReport:
        """Carries out the best plan within a budget.

        A plan is measured in a file. If it exceeds the budget there, the limit of the next one is lower by what the
        file has in addition to the prediction.
        """
        feeds = first_sample(self.data.choosing, batched=self.data.batched)
        costs = None
        if device is not None:
            with self.done.step("time layers"), Clock(device) as clock:
                costs = costs_of(subject, clock, feeds)
        tightened, real, limit = budget, Cost(math.inf), math.inf
        for _ in range(_TRIES):
            choice = choose(subject, tightened, costs=costs, executor=executor, folder=folder, measured=self.done)
            if not choice.chosen.choices:
                raise UsageError(f"no smaller file is within {budget}: every weight stays. Nothing was written.")
            limit = math.inf if budget.kind == "max-drop" else budget.limit(choice.original.cost)
            real = self._cost(subject, budget, choice, device, feeds)
            if real.value <= limit:
                usable = limit - max(0.0, real.value - choice.chosen.cost)
                settled = self._settled(subject, replace(choice, budget=budget, limit=usable), real)
                return self._finished(subject, *settled)
            extra = real.value - choice.chosen.cost
            if extra >= limit:
                break
            tightened = Budget(budget.kind, limit - extra, device=budget.device)
        raise UsageError(
            f"no plan met the budget {budget}: {real.value:,.0f} {choice.what} were measured in the file of the last "
            f"one, and {choice.chosen.cost:,.0f} were predicted. Nothing was written. Give a larger budget."
        )

    def _settled(self, subject: FileSubject, choice: Choice, real: "Cost") -> tuple[Choice, "Cost"]:
        """Compares the chosen plan with the best uniform plan in files, and takes the better one.

        Their losses may be nearly the same, and the rounding of inputs in a file is not in those of the search.
        """
        rival, budget = choice.best_uniform, choice.budget
        if budget is None or budget.kind not in ("bytes", "numbers") or rival is None:
            return choice, real
        if rival.choices == choice.chosen.choices:
            return choice, real
        with self.done.step("write the file"), temporary.folder("edgefc-compress-") as place:
            points, costs = list[Point](), list[float]()
            for at, point in enumerate((choice.chosen, rival)):
                written = subject.write(point.choices, place / f"{at}.onnx", None)
                points.append(replace(point, loss=subject.loss_of(written.path)))
                costs.append(written.file_after if budget.kind == "bytes" else point.cost)
        choice = replace(choice, uniform=tuple(points[1] if each is rival else each for each in choice.uniform))
        if costs[1] > budget.limit(choice.original.cost) or quality(points[0]) >= quality(points[1]):
            return choice, real
        return replace(choice, chosen=replace(points[1], name="chosen"), effects={}), Cost(costs[1])

    def _cost(self, subject: FileSubject, budget: Budget, choice: Choice, device: str | None, feeds: Feeds) -> "Cost":
        """What a plan costs in a file, in the unit of the budget."""
        chosen = choice.chosen
        if budget.kind not in ("bytes", "latency"):
            return Cost(chosen.cost)
        with self.done.step("write the file"), temporary.folder("edgefc-compress-") as place:
            written = subject.write(chosen.choices, place / "model.onnx", None)
            if device is None:
                return Cost(written.file_after)
            with Clock(device) as clock:
                before, after = clock.measure([self.source, written.path], inputs=feeds)
                where = f"{device} (emulated)" if clock.emulated else device
        value = after * choice.original.cost / before if budget.relative else after
        return Cost(value, before, after, where)

    def _finished(self, subject: FileSubject, choice: Choice, real: "Cost | None" = None) -> CompressReport:
        """Writes the file, and measures its loss and its outputs."""
        chosen = choice.chosen
        with self.done.step("write the file"):
            written = subject.write(chosen.choices, self.target, self.data)
        with self.done.step("run the compressed model"):
            old, new = (Session(path, threads=self.threads, native="off") for path in (self.source, self.target))
            outputs = loss_between(old, new, self.data.held)
            loss = subject.loss_of(self.target)
        cost = real or Cost(written.file_after)
        last = PlanResult(
            "written", chosen.numbers, written.file_after, cost.value, chosen.predicted, loss, chosen.metric,
            _within(choice, cost.value),
        )  # fmt: skip
        changes = outputs.results([port.name for port in old.outputs], held_out=self.data.separate)
        report = report_of(
            choice, subject, plan_record(chosen), outputs=changes, steps=self.done.done, device=cost.device,
            latency_before=cost.before, latency_after=cost.after, lowest_onnxruntime=written.lowest_onnxruntime,
        )  # fmt: skip
        return replace(report, stages=(*report.stages, last))


def _within(choice: Choice, cost: float) -> bool:
    """Whether a file is within the budget. That of a metric is measured when the plan is chosen."""
    budget = choice.budget
    return budget is None or budget.kind == "max-drop" or cost <= budget.limit(choice.original.cost)


@dataclass(frozen=True)
class Cost:
    """What a plan costs in a file, in the unit of the budget.

    Attributes:
        before, after   the measured times of the original and of the file, in microseconds; None for another budget
        device          on which they were measured
    """

    value: float
    before: float | None = None
    after: float | None = None
    device: str | None = None


def plan_record(point: Point) -> dict[str, Any]:
    """The plan as in a file."""
    rules = [Rule(glob.escape(name), to=to) for name, to in point.choices.items()]
    return Plan(rules).record() if rules else {"rules": []}


def _checked(output: Path, plan: Any, budget: Any, calibration: Any, metric: Any) -> Budget | None:
    """Checks the arguments, and returns the budget; None for a plan.

    Raises:
        UsageError: see compress_file().
    """
    if output.suffix != ".onnx":
        raise UsageError(f"cannot write {output}: the name of a model must end in .onnx.")
    if (plan is None) == (budget is None):
        given = "neither a plan nor a budget" if plan is None else "a plan and a budget"
        raise UsageError(f"compress got {given}. Give one of them, such as budget='bytes=0.25'.")
    if calibration is None:
        raise UsageError("compress measures the model on calibration data. Give 100 to 1,000 typical samples.")
    if metric is not None and not callable(metric):
        raise UsageError(f"the metric is a {type(metric).__name__}. Give a function from a Session to a number.")
    wanted = None if budget is None else budget_of(budget)
    if wanted is not None and wanted.kind == "max-drop" and metric is None:
        raise UsageError(f"the budget {wanted} needs a metric. Give one, or a budget such as bytes=0.25.")
    return wanted


def _candidates(given: Sequence[Configuration] | None, plan: Any, source: Path) -> tuple[Configuration, ...]:
    if plan is not None:
        return tuple(dict.fromkeys((*(rule.to for rule in plan_of(plan).rules if rule.to.kind != "Keep"), *RIVALS)))
    return affordable(CANDIDATES, file_bytes(source)) if given is None else tuple(dict.fromkeys(given))


def _choices(subject: FileSubject, plan: Plan) -> dict[str, Configuration]:
    """What a plan makes of each unit.

    Raises:
        UsageError: a rule decides nothing, or a weight cannot become what the plan says.
    """
    _, places = subject.read()
    index = {id(place): at for at, place in enumerate(places)}
    by_place = {at: unit for unit in subject.units for at in subject.places_of(unit)}
    found = dict[str, Configuration]()
    for decision in decide(plan, places):
        unit, to = by_place.get(index[id(decision.places[0])]), decision.configuration
        if decision.way is None or unit is None or to not in unit.configurations:
            reason = decision.reason or "no fit serves it"
            raise UsageError(f"{decision.places[0].name} cannot become {to.kind}: {reason}.")
        found[unit.name] = to
    return found


@contextmanager
def _kept(folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folder of the results. Without one they are kept until the end, because several plans may be tried."""
    if folder is not None:
        yield Path(folder)
        return
    with temporary.folder("edgefc-sweep-") as place:
        yield place
