"""What compress() did, for torch models and .onnx files. The record of edgefc compress --json."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgefc.choosing.choice import Choice, Point
from edgefc.choosing.subject import Subject
from edgefc.plan.rules import configuration_text
from edgefc.timing import StepReport


@dataclass(frozen=True)
class LayerResult:
    """One layer that could become something else.

    Attributes:
        to          its configuration, such as "Int4"; "Keep" if it stays
        predicted   the loss of the model with this layer alone replaced
        measured    by how much the loss of the compressed model falls if this layer alone is the original; None if it
                    was not measured. Summed over the layers, this is not the loss: the losses of layers overlap.
        error       the relative error of the layer's outputs
    """

    name: str
    before: str
    to: str
    numbers_before: int
    numbers_after: int
    bytes_before: int
    bytes_after: int
    predicted: float | None
    measured: float | None
    error: float | None


@dataclass(frozen=True)
class PlanResult:
    """A plan.

    Attributes:
        cost        in the unit of the budget
        predicted   the sum of the losses of the model with one layer replaced; None after training
        loss        measured on the samples for choosing; None if it was not
        metric      the user's
        within      whether it is within the budget; of at most the bytes of the plan, if that was given
    """

    name: str
    numbers: int
    bytes: int
    cost: float
    predicted: float | None
    loss: float | None
    metric: float | None
    within: bool


@dataclass(frozen=True)
class OutputResult:
    """The change of one output of the model, on samples that were not used before, if `held_out`.

    Attributes:
        error    sqrt(|new - old|^2 / |old|^2) over all values
        cosine   the mean cosine of the vectors along the last axis; None for an output of single numbers
    """

    name: str
    samples: int
    error: float
    cosine: float | None
    held_out: bool


@dataclass(frozen=True)
class CompressReport:
    """What compress() did.

    Attributes:
        budget      as text; None if the plan was given
        limit       the largest cost; None without one
        what        the unit of costs: bytes, numbers or microseconds
        plan        what was replaced, as in a file
        stages      the model before and after each step: the original, the plan with the least predicted loss, the
                    chosen plan, the trained model
        uniform     uniform plans, which were measured too
        tried       other plans that were measured
        frontier    the plans with the least predicted loss for rising costs
        outputs     the change of the outputs
        latency     in microseconds on `device`, before and after; None if it was not measured
        training    the record of the training; None without training
    """

    budget: str | None
    limit: float | None
    what: str
    plan: dict[str, Any]
    layers: tuple[LayerResult, ...]
    stages: tuple[PlanResult, ...]
    uniform: tuple[PlanResult, ...] = ()
    tried: tuple[PlanResult, ...] = ()
    frontier: tuple[PlanResult, ...] = ()
    outputs: tuple[OutputResult, ...] = ()
    steps: tuple[StepReport, ...] = ()
    device: str | None = None
    latency_before: float | None = None
    latency_after: float | None = None
    training: dict[str, Any] | None = None
    lowest_onnxruntime: str = ""

    @property
    def before(self) -> PlanResult:
        """The original model."""
        return self.stages[0]

    @property
    def after(self) -> PlanResult:
        """The compressed model."""
        return self.stages[-1]

    @property
    def best_uniform(self) -> PlanResult | None:
        """The best uniform plan within the budget: by the metric if there is one, else by the loss."""
        return max((each for each in self.uniform if each.within), key=_quality, default=None)

    def record(self) -> dict[str, Any]:
        """The report as JSON values. Numbers that are not finite become None."""
        record: dict[str, Any] = _finite(asdict(self))
        return record

    def sentence(self) -> str:
        """The result in a sentence or two."""
        before, after, rival = self.before, self.after, self.best_uniform
        text = f"{before.bytes:,} bytes of weights -> {after.bytes:,} ({before.bytes / max(1, after.bytes):.2f}x)"
        text += "" if after.loss is None else f", loss {after.loss:.3g}"
        if before.metric is not None and after.metric is not None:
            text += f", metric {before.metric:.4g} -> {after.metric:.4g}"
        if rival is None:
            return f"{text}."
        metric = "" if rival.metric is None else f", metric {rival.metric:.4g}"
        loss = "" if rival.loss is None else f", loss {rival.loss:.3g}"
        within = " of at most its bytes" if self.budget is None else " within the budget"
        return f"{text}. The best uniform plan{within}: {rival.name}, {rival.bytes:,} bytes{loss}{metric}."


def report_of(
    choice: Choice,
    subject: Subject,
    plan: dict[str, Any],
    *,
    outputs: Sequence[OutputResult] = (),
    steps: Sequence[StepReport] = (),
    **others: Any,
) -> CompressReport:
    """The report of a choice. `others` are further fields of the report."""

    def results(points: Sequence[Point]) -> tuple[PlanResult, ...]:
        return tuple(_result(each, choice.limit) for each in points)

    stages = [choice.original, *([] if choice.first is choice.chosen else [choice.first]), choice.chosen]
    return CompressReport(
        budget=None if choice.budget is None else str(choice.budget),
        limit=choice.limit if choice.budget is not None and math.isfinite(choice.limit) else None,
        what=choice.what,
        plan=plan,
        layers=tuple(_layers(choice, subject)),
        stages=results(stages),
        uniform=results(choice.uniform),
        tried=results(choice.tried),
        frontier=results(choice.frontier),
        outputs=tuple(outputs),
        steps=tuple(steps),
        **others,
    )


def _result(point: Point, limit: float) -> PlanResult:
    return PlanResult(
        point.name, point.numbers, point.bytes, point.cost, point.predicted, point.loss, point.metric,
        point.cost <= limit,
    )  # fmt: skip


def _layers(choice: Choice, subject: Subject) -> Sequence[LayerResult]:
    result = []
    for unit in subject.units:
        to = choice.chosen.choices.get(unit.name)
        swap = next((each for each in choice.swaps[unit.name] if each.configuration == to), None)
        after = unit if swap is None else swap
        result.append(
            LayerResult(
                unit.name,
                unit.before,
                "Keep" if to is None else configuration_text(to),
                unit.numbers,
                after.numbers,
                unit.bytes,
                after.bytes,
                0.0 if swap is None else swap.loss,
                choice.effects.get(unit.name),
                None if swap is None else swap.error,
            )
        )
    return result


def _quality(result: PlanResult) -> tuple[float, float]:
    loss = math.inf if result.loss is None else result.loss
    return (0.0 if result.metric is None else result.metric), -loss


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
