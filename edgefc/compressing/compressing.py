"""compress(): the best model within a budget."""

import copy
import dataclasses
import glob
import math
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from edgefc.choosing.budget import Budget, budget_of
from edgefc.choosing.choice import Choice
from edgefc.choosing.choosing import choose, compare
from edgefc.choosing.report import CompressReport, OutputResult, PlanResult, report_of
from edgefc.compressing.candidates import RIVALS
from edgefc.compressing.layers import Layer, layers_of, layers_of_plan
from edgefc.compressing.measures import Metric, metric_of
from edgefc.compressing.samples import Samples, samples_of
from edgefc.compressing.subject import TorchSubject
from edgefc.errors import UsageError, shortened
from edgefc.plan.configurations import Configuration
from edgefc.plan.reading import plan_of
from edgefc.plan.rules import Plan, Rule
from edgefc.replacing.measuring import Outputs, bytes_of, changes, numbers_of, outputs_after, outputs_of
from edgefc.replacing.replacing import install, open_attentions, remember
from edgefc.replacing.statistics import MEMORY
from edgefc.replacing.surgery import Surgery
from edgefc.replacing.warnings import lowest_onnxruntime
from edgefc.timing import Steps


def compress(
    model: nn.Module,
    plan: Any = None,
    *,
    budget: str | Budget | None = None,
    calibration: Any = None,
    metric: Metric | None = None,
    minutes: float = 0,
    candidates: Sequence[Configuration] | None = None,
    executor: Executor | None = None,
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> CompressReport:
    """Replaces layers of a model, in place, by the best smaller ones within a budget.

        report = edgefc.compress(model, budget="bytes=0.25", calibration=batches)
        print(report.sentence())

    Each layer is replaced by each candidate in turn, and the change of the model's outputs is its loss. The plan with
    the least sum of losses within the budget is then measured, with plans near it and with the uniform plans (all
    layers Half, Int8, Int4, ...). The best plan by measurement is carried out. If anything fails, the model is as
    before.

    Args:
        model        any torch model
        plan         a plan to carry out instead of a budget; it is measured, and compared with Half, Int8 and Int4
        budget       such as "bytes=0.25", "numbers=1000000" or "max-drop=0.01", which is of the metric: see
                     edgefc.choosing.budget
        calibration  batches that the model takes, as for edgefc.replace(): 100 to 1,000 typical samples. They are
                     divided: a tenth is held out for the figures of the report, about 64 samples are for choosing, and
                     the fits use the rest.
        metric       a function from a model to a number, higher is better. It decides between the plans that are
                     measured. Without it, the loss does.
        minutes      of training after the layers are replaced (edgefc.distil), on the samples for the fits; those for
                     choosing decide which state is the best. 0: none.
        candidates   what layers can become, such as [Int8(), Int4(), Monarch()]; each layer gets those that serve it.
                     By default: quantised layers and low ranks in 8 bits; with `minutes`, structured layers too.
        executor     of concurrent.futures, or of Dask: fits and measures layers in parallel
        folder       keeps all results, so that the same call goes on after an interruption
        seed         of the training

    Returns:
        CompressReport. The loss is the mean over the model's outputs of 1 - mean cosine of the vectors along the last
        axis, and of the relative squared error for outputs of single numbers.

    Raises:
        UsageError: both or neither of plan and budget, no calibration data, no layer that can be replaced, a budget
            that no plan meets or that needs a metric, a metric that fails, or a folder with results of other data.
        CheckFailed: the outputs of the compressed model are not finite.
    """
    wanted = _checked(model, plan, budget, calibration, metric, minutes, candidates)
    work = None if folder is None else Path(folder)
    samples = samples_of(calibration)
    measured = Steps()
    layers = (
        layers_of_plan(model, plan_of(plan), RIVALS)
        if wanted is None
        else layers_of(model, candidates, trained=minutes > 0)
    )
    teacher = copy.deepcopy(model) if minutes else None
    with Surgery(model) as surgery:
        with measured.step("run the model"):
            old = outputs_of(model, samples.held_out)
        with measured.step("read calibration data"):
            statistics = None if work is None else work / "statistics"
            subject = TorchSubject(surgery, layers, samples, metric=metric, seed=seed, memory=MEMORY, folder=statistics)
        if wanted is None:
            choice = compare(subject, _choices(layers), folder=work, measured=measured)
        else:
            choice = choose(subject, wanted, executor=executor, folder=work, measured=measured)
        with measured.step("replace layers"):
            made = subject.made(choice.chosen.choices)
            surgery.undo()
            open_attentions(surgery, list(made))
            install(surgery, made)
        outputs = _outputs(model, samples, old, measured)
        stages: list[PlanResult] = []
        training = None
        if teacher is not None:
            from edgefc.training.distilling import distil

            with measured.step("train"):
                trained = distil(
                    model, teacher, samples.fitting, minutes=minutes, metric=metric, seed=seed,
                    held_out=samples.choosing, folder=None if work is None else work / "training",
                )  # fmt: skip
            training = trained.record()
            stages.append(_trained(model, subject, choice, metric))
            outputs = _outputs(model, samples, old, measured)
    if made:
        remember(model, {decision.target.name: decision.configuration for decision in made})
    rules = [Rule(glob.escape(each.target.name), to=each.configuration) for each in made]
    record = Plan(rules).record() if rules else {"rules": []}
    report = report_of(
        choice, subject, record, outputs=outputs, steps=measured.done, training=training,
        lowest_onnxruntime=lowest_onnxruntime(each.configuration for each in made),
    )  # fmt: skip
    return dataclasses.replace(report, stages=(*report.stages, *stages))


def _checked(
    model: Any, plan: Any, budget: Any, calibration: Any, metric: Any, minutes: Any, candidates: Any
) -> Budget | None:
    """Checks the arguments, and returns the budget; None for a plan.

    Raises:
        UsageError: see compress().
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"cannot compress a {type(model).__name__}. Pass a torch.nn.Module, or use edgefc compress.")
    if (plan is None) == (budget is None):
        given = "neither a plan nor a budget" if plan is None else "a plan and a budget"
        raise UsageError(f"compress got {given}. Give one of them, such as budget='bytes=0.25'.")
    if calibration is None:
        raise UsageError("compress measures the model on calibration data. Give 100 to 1,000 typical samples.")
    if metric is not None and not callable(metric):
        raise UsageError(f"the metric is a {type(metric).__name__}. Give a function from a model to a number.")
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 <= minutes < math.inf:
        raise UsageError(f"minutes is {shortened(repr(minutes), 60)}. Give a number from 0 on.")
    if candidates is not None:
        _check_candidates(candidates, plan)
    if budget is None:
        return None
    wanted = budget_of(budget)
    if wanted.kind == "latency":
        raise UsageError(
            f"the budget {wanted} needs an .onnx file, because the file is what runs on a device. Export the model, "
            "and give the file to edgefc compress."
        )
    if wanted.kind == "max-drop" and metric is None:
        raise UsageError(f"the budget {wanted} needs a metric. Give one, or a budget such as bytes=0.25.")
    return wanted


def _check_candidates(candidates: Any, plan: Any) -> None:
    if plan is not None:
        raise UsageError("candidates are for a budget. Leave them out, or give a budget instead of the plan.")
    listed = candidates if isinstance(candidates, list | tuple) else [candidates]
    wrong = next((each for each in listed if not isinstance(each, Configuration)), None)
    if wrong is not None or not listed or listed is not candidates:
        raise UsageError(
            f"candidates is {shortened(repr(candidates), 60)}. Give a list of configurations, such as [Int8(), Int4()]."
        )


def _choices(layers: Sequence[Layer]) -> dict[str, Configuration]:
    """The plan of layers_of_plan()."""
    return {decision.target.name: to for each in layers for to, decision in list(each.items())[:1]}


def _outputs(model: nn.Module, samples: Samples, old: Sequence[Outputs], measured: Steps) -> tuple[OutputResult, ...]:
    with measured.step("run the compressed model"):
        new = outputs_after(model, samples.held_out)
    return tuple(OutputResult(**asdict(each)) for each in changes(old, new, held_out=samples.separate))


def _trained(model: nn.Module, subject: TorchSubject, choice: Choice, metric: Metric | None) -> PlanResult:
    """The model after training."""
    chosen = choice.chosen
    numbers, size = numbers_of(model), bytes_of(model)
    value = None if metric is None else metric_of(metric, model)
    return PlanResult("trained", numbers, size, chosen.cost, None, subject.change(), value, chosen.cost <= choice.limit)
