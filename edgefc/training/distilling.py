"""distil(): trains a student model to compute what a teacher model computes."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from edgefc.errors import UsageError
from edgefc.replacing.resuming import hash_of
from edgefc.replacing.statistics import batches_of
from edgefc.training import hidden, ranks
from edgefc.training import teacher as teaching
from edgefc.training.checkpoint import Store
from edgefc.training.data import Data
from edgefc.training.latent import latents, stored_layers
from edgefc.training.loop import Loop
from edgefc.training.report import DistilReport
from edgefc.training.schedule import LEAST_STEPS, RATES, TRIAL, Budget
from edgefc.training.student import Student, local, unwrapped


def distil(
    student: nn.Module,
    teacher: nn.Module,
    batches: Any,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    lr: float | None = None,
    metric: Callable[[nn.Module], float] | None = None,
    held_out: Any = None,
    folder: str | os.PathLike[str] | None = None,
    amp: bool = False,
    accumulate: int = 1,
    seed: int = 0,
) -> DistilReport:
    """Trains the student, in place, to compute what the teacher computes.

        teacher = copy.deepcopy(model)
        edgefc.replace(model, plan, calibration=batches)
        report = edgefc.distil(model, teacher, batches, minutes=10)

    The loss compares the outputs of both models, and the outputs of up to three modules of the same name, such as the
    blocks of a transformer, with those of the teacher: relative squared error, and 1 - cosine of the vectors along the
    last axis. Positions where attention_mask is 0 are left out. Both models are in eval mode: no dropout, and batch
    norms that do not change.

    All parameters of the student that require gradients are trained. Quantised layers and layers in float16 are trained
    through their codes: within distil() they compute from float32 numbers that are rounded in each step
    (straight-through), and scales. Afterwards they store what they computed in the best evaluation, in the same bytes.

    The student is evaluated at the start and about twenty times more. It ends in the state of the best evaluation,
    which may be that at the start, also after an exception or Ctrl-C.

    Args:
        student     a model after edgefc.replace(), or any other model with outputs as the teacher's. It may be wrapped
                    in DistributedDataParallel or FSDP; each rank then passes its own share of the batches.
        teacher     the model before. Its parameters must not be those of the student.
        batches     a list of batches that both take: tensors, tuples of positional or dicts of keyword arguments. Or a
                    DataLoader, or a function that returns the batches of an epoch. A list is shuffled in each epoch,
                    and what the teacher computes is kept, up to 1 GB.
        minutes     the time of the whole call
        steps       the number of steps of the optimizer. Give this or minutes.
        lr          the peak of the learning rate. None: two rates are tried for a tenth of the budget each.
        metric      a function of the student, of which a higher value is better. It then decides which state is the
                    best.
        held_out    a list of batches on which the student is evaluated; None: the last tenth of the list `batches`,
                    which is then not used for training
        folder      where the state is saved about once a minute. After an interruption, the same call goes on there,
                    with the same order of the data. Remove the folder afterwards.
        amp         whether to compute with bfloat16 where torch.autocast() does. Evaluations use the model's own type.
        accumulate  batches in a step of the optimizer
        seed        decides the order of the batches

    Memory, beside the models and activations: 16 bytes for each trained number (gradient, two moments of Adam, the best
    state), 4 more in the trials, 4 more in stored layers. `folder` takes 16 to 20 bytes for each.

    Raises:
        UsageError: arguments, models or batches that cannot be used, or the state of another training in `folder`.
    """
    _check(minutes, steps, lr, metric, accumulate, seed)
    budget = Budget(steps, minutes)
    trained, original = Student(student), unwrapped(teacher)
    _check_models(trained, original)
    data = Data(batches, seed)
    if held_out is not None:
        held = batches_of(held_out, "held_out")
    else:
        held = [] if metric is not None and not data.is_listed else data.hold_out()
    first = next(data.stream(0))[0]
    names = hidden.choose(trained.model, original, first)
    teaches = teaching.Teacher(original, names)
    common = teaching.check(teaches.of(first, None), teaching.outputs_of(trained.model, first, names))
    rates = _rates(lr, steps)
    store = None
    if folder is not None:
        settings = [minutes, steps, rates, accumulate, amp, seed, ranks.world(), names]
        content = [_values(trained.model), _values(original), data.content, held, settings]
        store = Store(Path(folder), hash_of(content))
    quantised = len(stored_layers(trained.model))
    with latents(trained.model) as numbers:
        trained.latent = numbers
        loop = Loop(
            trained, teaches, data, held, budget, rates,
            common=common, metric=metric, amp=amp, accumulate=accumulate, store=store,
        )  # fmt: skip
        loop.run()
    progress = loop.progress
    return DistilReport(
        before=progress.evaluations[0],
        after=progress.evaluations[progress.best],
        evaluations=tuple(progress.evaluations),
        lr=loop.lr,
        tried=tuple((rate, progress.evaluations[at]) for rate, at in progress.tried),
        steps=budget.step,
        seconds=budget.elapsed(),
        epochs=progress.drawn / (data.count or max(1, progress.drawn)),
        matched=tuple(names),
        quantised=quantised,
        stopped=progress.stopped,
    )


def _rates(lr: float | None, steps: int | None) -> tuple[float, ...]:
    """The learning rates to try. There is no trial of a few steps."""
    if lr is not None:
        return (float(lr),)
    return RATES[-1:] if steps is not None and steps * TRIAL < LEAST_STEPS else RATES


def _values(model: nn.Module) -> list[Any]:
    return [local(each) for each in (*model.parameters(), *model.buffers())]


def _check(minutes: Any, steps: Any, lr: Any, metric: Any, accumulate: Any, seed: Any) -> None:
    if (minutes is None) == (steps is None):
        raise UsageError(f"distil() needs minutes or steps, got minutes={minutes!r} and steps={steps!r}. Pass one.")
    for name, value in (("minutes", minutes), ("lr", lr)):
        if value is not None and not (_is(value, int | float) and 0 < value < math.inf):
            raise UsageError(f"{name} is {value!r}. Give a number above 0.")
    for name, value, least in (("steps", steps, 1), ("accumulate", accumulate, 1), ("seed", seed, 0)):
        if value is not None and not (_is(value, int) and value >= least):
            raise UsageError(f"{name} is {value!r}. Give an integer from {least}.")
    if metric is not None and not callable(metric):
        raise UsageError(f"metric is {metric!r}. Give a function of the model that returns a number.")


def _is(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _check_models(student: Student, teacher: nn.Module) -> None:
    shared = {id(each) for each in teacher.parameters()} | {
        each.untyped_storage().data_ptr() for each in teacher.parameters() if each.numel() and not each.is_meta
    }
    for name, each in student.model.named_parameters():
        stored = local(each).untyped_storage().data_ptr() if each.numel() and not each.is_meta else None
        if each.requires_grad and (id(each) in shared or stored in shared):
            raise UsageError(
                f"student and teacher share the parameter {name}, so that training would change both. Make the teacher "
                "before edgefc.replace(): teacher = copy.deepcopy(model)."
            )
    if not student.own and not stored_layers(student.model):
        raise UsageError(
            "no parameter of the student requires gradients. Call student.requires_grad_(True), or unfreeze those to "
            "train."
        )
    if not student.sharded and len({*ranks.gathered([int(hash_of(_values(student.model))[:15], 16)])}) > 1:
        raise UsageError(
            "the students of the ranks differ. Make the same model on each rank: torch.manual_seed(), the same "
            "weights, and edgefc.replace() after torch.distributed.init_process_group()."
        )
