"""replace(): the layers of a model become those of a plan."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from edgefc.errors import UsageError
from edgefc.plan.configurations import Configuration
from edgefc.plan.reading import plan_of
from edgefc.plan.rules import Plan
from edgefc.replacing.deciding import Decision, decide
from edgefc.replacing.finding import find
from edgefc.replacing.making import Made
from edgefc.replacing.measuring import bytes_of, changes, numbers_of, outputs_after, outputs_of
from edgefc.replacing.refitting import Refit, check_batches
from edgefc.replacing.report import ReplaceReport
from edgefc.replacing.statistics import MEMORY, batches_of
from edgefc.replacing.surgery import Surgery
from edgefc.replacing.warnings import lowest_onnxruntime, warnings_of
from edgefc.replacing.work import Work
from edgefc.timing import Steps

PLACED = "_edgefc_plan"
"""The attribute of a model that holds the rules of its replaced layers, by name; save() stores them."""

_HELD_OUT = 10
"""One batch of this many is held out for the comparison of outputs."""


def replace(
    model: nn.Module,
    plan: Any,
    *,
    init: Literal["fit", "new"] = "fit",
    calibration: Any = None,
    memory: int = MEMORY,
    statistics: str | os.PathLike[str] | None = None,
    sequential: bool = False,
) -> ReplaceReport:
    """Replaces layers of a model, in place, and fits the new layers to what the trained ones did.

        report = edgefc.replace(model, {"encoder.*": edgefc.plan.Int4()}, calibration=batches)
        print(report)

    If anything fails, the model is as before. Layers that cannot be replaced stay, and the report has the reason.

    Args:
        model        any torch model. Its linear layers, convolutions, embeddings, LSTMs and attentions can be replaced.
        plan         rules, a dict from patterns of names to configurations, one configuration for all layers, or the
                     path of a .toml or .json file (edgefc.plan)
        init         "fit": from the trained weights, in closed form. "new": with initial values, to be trained; these
                     and the seeds of layers are drawn from torch's generator.
        calibration  batches that the model takes: tensors, tuples of positional or dicts of keyword arguments. The fits
                     then minimise the error of the outputs for such inputs. The last tenth of the batches, at least one
                     of several, is held out: on it the outputs of the model before and after are compared. Positions
                     where attention_mask is 0 are left out.
        memory       the bytes that the statistics may take at a time; if they need more, the data are read again
        statistics   a folder that keeps the statistics of the inputs. After an interruption, the same call goes on with
                     the batch that was saved last. Remove the folder afterwards. A refit starts anew.
        sequential   whether to refit linear layers whose weights become at least 4 times smaller: in the order in which
                     they run, to the outputs of the original model, for the inputs that they get in the replaced one.
                     The model keeps the fits with the smaller error on the held-out batches, at least two batches in
                     all. It reads the data up to 24 times: on MiniLM-L6 with LowRank(ratio=4) and 128 sentences
                     this took three times the CPU time of all else. Two of its blocks had the output error .522
                     before and .484 then, with 3,000 tokens.

    Under torch.distributed each rank passes its own share of the calibration data, and all ranks get the same layers.

    Raises:
        UsageError: a plan, model or calibration data that cannot be used, a rule that matches nothing, a plan by
            which no layer can be replaced, or sequential=True with less than two batches.
        CheckFailed: the outputs of the replaced model, or the inputs of its layers, are not finite.
    """
    if init not in ("fit", "new"):
        raise UsageError(f"init is {init!r}. Choose 'fit' or 'new'.")
    if init == "new" and calibration is not None:
        raise UsageError("init='new' reads no calibration data. Choose init='fit', or leave calibration out.")
    if statistics is not None and calibration is None:
        raise UsageError(f"statistics={str(statistics)!r} needs calibration data. Pass calibration, or leave it out.")
    if isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
        raise UsageError(f"memory is {memory!r}. Give a number of bytes.")
    measured = Steps()
    decisions = decide(find(model), plan_of(plan))
    batches = [] if calibration is None else batches_of(calibration)
    held = batches[-max(1, len(batches) // _HELD_OUT) :]
    fitting = batches[: -len(held)] or batches
    if sequential:
        check_batches(batches)
    before = numbers_of(model), bytes_of(model)
    with measured.step("run the model"):
        old = outputs_of(model, held)
    with Surgery(model) as surgery:
        open_attentions(surgery, decisions)
        work = Work(model, decisions, measured)
        if init == "new":
            work.create()
        else:
            work.fit(fitting, memory, None if statistics is None else Path(statistics))
        if not work.made:
            raise UsageError(f"no layer can be replaced. {_reasons(decisions)}")
        original = surgery.count
        install(surgery, work.made)
        with measured.step("run the replaced model"):
            outputs = changes(old, outputs_after(model, held), held_out=len(batches) > 1)
        refit = Refit(surgery, original, work.made)
        if sequential and refit.open:
            with measured.step("refit layers"):
                refit.run(fitting, memory)
            with measured.step("run the replaced model"):
                others = changes(old, outputs_after(model, held), held_out=True)
            outputs = refit.better(outputs, others)
    remember(model, {decision.target.name: decision.configuration for decision in work.made})
    final = {**work.made, **refit.made}
    return ReplaceReport(
        layers=tuple(decision.report(final.get(decision), refitted=decision in refit.made) for decision in decisions),
        outputs=outputs,
        steps=tuple(measured.done),
        warnings=tuple(warnings_of(work, init, calibrated=bool(batches))),
        numbers_before=before[0],
        numbers_after=numbers_of(model),
        bytes_before=before[1],
        bytes_after=bytes_of(model),
        lowest_onnxruntime=lowest_onnxruntime(decision.configuration for decision in work.made),
    )


def preview(model: nn.Module, plan: Any) -> ReplaceReport:
    """Returns the report of replace() without errors, and leaves the model as it is: the layers have initial values.

    Raises:
        UsageError: as replace().
    """
    decisions, work = _created(model, plan_of(plan))
    layers = tuple(decision.report(work.made.get(decision)) for decision in decisions)
    before = numbers_of(model), bytes_of(model)
    return ReplaceReport(
        layers=layers,
        warnings=tuple(warnings_of(work, "new", calibrated=False)),
        numbers_before=before[0],
        numbers_after=before[0] + sum(each.numbers_after - each.numbers_before for each in layers),
        bytes_before=before[1],
        bytes_after=before[1] + sum(each.bytes_after - each.bytes_before for each in layers),
        lowest_onnxruntime=lowest_onnxruntime(decision.configuration for decision in work.made),
    )


def apply_new(model: nn.Module, plan: Plan) -> None:
    """Carries out a plan of names with initial values, all of it.

    Raises:
        UsageError: a rule that matches nothing, or a layer that cannot be replaced.
    """
    with Surgery(model) as surgery:
        decisions = decide(find(model), plan)
        open_attentions(surgery, decisions)
        work = Work(model, decisions, Steps())
        work.create()
        refused = next((each for each in decisions if each.reason), None)
        if refused is not None:
            raise UsageError(f"{refused.target.name} cannot become {refused.configuration}: {refused.reason}.")
        install(surgery, work.made)
    remember(model, {decision.target.name: decision.configuration for decision in work.made})


def _created(model: nn.Module, plan: Plan) -> tuple[list[Decision], Work]:
    decisions = decide(find(model), plan)
    work = Work(model, decisions, Steps())
    work.create()
    return decisions, work


def remember(model: nn.Module, placed: dict[str, Configuration]) -> None:
    """Stores what was placed where, after earlier calls, for save()."""
    setattr(model, PLACED, [*getattr(model, PLACED, ()), placed])


def open_attentions(surgery: Surgery, decisions: Sequence[Decision]) -> None:
    """Opens each nn.MultiheadAttention of which a projection is to be replaced."""
    for decision in decisions:
        target = decision.target
        if not target.aliases or decision.reason:
            continue
        if isinstance(surgery.model.get_submodule(target.aliases[0]), nn.MultiheadAttention):
            surgery.open_attention(target.aliases)
        target.module = surgery.model.get_submodule(target.name)
    surgery.call_layers()


def install(surgery: Surgery, made: Mapping[Decision, Made]) -> None:
    """Puts the new layers into the model."""
    for decision, new in made.items():
        target = decision.target
        for name in target.names:
            if target.pair is None:
                surgery.put(name, new.layer)
                continue
            prefix = f"{name}." if name else ""
            surgery.put(prefix + target.pair.first, new.layer)
            for path in (*target.pair.between, target.pair.second):
                surgery.put(prefix + path, nn.Identity())


def _reasons(decisions: Sequence[Decision]) -> str:
    if not decisions:
        return "The plan keeps all layers."
    first = decisions[0]
    count = len(decisions) - 1
    more = f" {count} more layer{'s' * (count > 1)} cannot be replaced either." if count else ""
    return f"{first.target.name or type(first.target.module).__name__}: {first.reason}.{more}"
