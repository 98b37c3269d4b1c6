"""replace(): the layers of a model become those of a plan."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from edgefc.compress.deciding import Decision, decide
from edgefc.compress.finding import BOTTLENECK, PAIR, find
from edgefc.compress.making import Made, make_fitted, make_new
from edgefc.compress.measuring import Steps, bytes_of, changes, numbers_of, outputs_of
from edgefc.compress.report import ReplaceReport
from edgefc.compress.statistics import MEMORY, Pass, Statistics, batches_of, groups_of, passes_of
from edgefc.compress.surgery import Surgery
from edgefc.compress.warnings import warnings_of
from edgefc.errors import UsageError
from edgefc.plan.reading import plan_of
from edgefc.progress import steps

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
) -> ReplaceReport:
    """Replaces layers of a model, in place, and fits the new layers to what the trained ones did.

        report = edgefc.replace(model, {"encoder.*": edgefc.plan.Int4()}, calibration=batches)
        print(report)

    If anything fails, the model is as it was before. Layers that cannot be replaced stay, and the report has the reason.

    Args:
        model        any torch model. Its linear layers, convolutions, embeddings, LSTMs and attentions can be replaced.
        plan         rules, a dict from patterns of names to configurations, one configuration for all layers, or the
                     path of a .toml or .json file (edgefc.plan)
        init         "fit": from the trained weights, in closed form. "new": with initial values, to be trained.
        calibration  batches that the model takes: tensors, tuples of positional or dicts of keyword arguments. The fits
                     then minimise the error of the outputs for such inputs. The last tenth of the batches, at least one
                     of several, is held out: on it the outputs of the model before and after are compared. Positions
                     where attention_mask is 0 are left out.
        memory       the bytes that the statistics may take at a time; if they need more, the data are read several times

    Under torch.distributed each rank passes its own share of the calibration data, and all ranks get the same layers.

    Raises:
        UsageError: a plan, model or calibration data that cannot be used, a rule that matches nothing, or a plan by
            which no layer can be replaced.
        CheckFailed: the outputs of the replaced model are not finite.
    """
    if init not in ("fit", "new"):
        raise UsageError(f"init is {init!r}. Choose 'fit' or 'new'.")
    if init == "new" and calibration is not None:
        raise UsageError("init='new' reads no calibration data. Choose init='fit', or leave calibration out.")
    measured = Steps()
    rules = plan_of(plan)
    decisions = decide(find(model), rules)
    batches = [] if calibration is None else batches_of(calibration)
    held = batches[-max(1, len(batches) // _HELD_OUT) :]
    fitting = batches[: -len(held)] or batches
    before = numbers_of(model), bytes_of(model)
    with measured.step("outputs of the model"):
        old = outputs_of(model, held)
    with Surgery(model) as surgery:
        _open(surgery, decisions)
        work = _Work(model, decisions, measured)
        if init == "new":
            work.make(lambda decision: Made(make_new(decision.target, decision.configuration, decision.seed)))
        else:
            work.fit(fitting, memory)
        if not work.made:
            raise UsageError(f"no layer can be replaced: {_reasons(decisions)}.")
        _install(surgery, work.made)
        with measured.step("outputs of the replaced model"):
            outputs = changes(old, outputs_of(model, held), held_out=len(batches) > 1)
    reports = tuple(decision.report(work.made.get(decision)) for decision in decisions)
    _remember(model, work.made)
    return ReplaceReport(
        layers=reports,
        outputs=outputs,
        steps=tuple(measured.done),
        warnings=warnings_of(decisions, work, init, calibrated=bool(batches)),
        numbers_before=before[0],
        numbers_after=numbers_of(model),
        bytes_before=before[1],
        bytes_after=bytes_of(model),
    )
